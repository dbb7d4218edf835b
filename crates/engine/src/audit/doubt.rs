//! Why a record is not gone on with before a person has looked.

use std::io;

/// What is wrong with the end of a record. Going on would hide it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It ends before a line that was there.
    #[error("it had {was} lines once and has {is}: lines were removed at the end")]
    Shorter {
        /// So many there were.
        was: u64,
        /// So many there are.
        is: u64,
    },
    /// A line that was there is another one.
    #[error("line {line} is not the one that was there: it was written anew from there or earlier")]
    Exchanged {
        /// Its number.
        line: u64,
    },
    /// There are lines, and no note of how many there were.
    #[error(
        "{note}, which says how long it was, is not there: whether lines were removed at the end cannot be told"
    )]
    NoNote {
        /// The note.
        note: String,
    },
    /// The note does not open.
    #[error("{note}, which says how long it was: {why}")]
    ForeignNote {
        /// The note.
        note: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file that this process wrote is not the one that is there.
    #[error(
        "it was moved away, or another file took its place, while this process wrote it; put it back, or start the process anew"
    )]
    Moved,
}

impl Doubt {
    /// What a person does, where that is not said already.
    fn next_step(&self) -> &'static str {
        match self {
            Doubt::Moved => "",
            _ => {
                "; `ashlar audit verify` shows what of it is whole, a backup what is missing; \
                 `ashlar audit accept` records that somebody has looked, and it goes on from what is there"
            }
        }
    }
}

impl From<Doubt> for io::Error {
    fn from(doubt: Doubt) -> Self {
        io::Error::other(format!("{doubt}{}", doubt.next_step()))
    }
}
