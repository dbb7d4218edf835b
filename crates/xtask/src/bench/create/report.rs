//! The tables.

use std::time::Duration;

use super::super::table::Table;
use super::marks::{Mark, Node, merged};
use super::sides::{Line, Run};

/// Actions of Ashlar that are shorter than this are not listed.
const WORTH_A_LINE: Duration = Duration::from_millis(500);

/// Both sides, once.
pub(super) struct Round {
    pub(super) ashlar: Run,
    pub(super) script: Run,
    pub(super) ashlar_deleted: Duration,
    pub(super) script_deleted: Duration,
}

/// Where the time of a round went.
pub(super) fn print_round(number: u32, round: &Round) {
    println!(
        "\nround {number}: seconds since the command's start, and until the node's next stage (what the host's files and \
         the consoles show)"
    );
    for node in Node::ALL {
        let empty = Vec::new();
        let ashlar = round.ashlar.marks.get(&node).unwrap_or(&empty);
        let script = round.script.marks.get(&node).unwrap_or(&empty);
        println!("{}", stages(node.title(), ashlar, script));
    }
    let long = actions(&round.ashlar.lines);
    if !long.is_empty() {
        println!("Ashlar's own actions of half a second or more (they overlap with the stages above):");
        let mut table = Table::new(&["ACTION", "ENDED AT", "TOOK"]);
        for (line, took) in long {
            table.push(vec![title(&line.text), seconds(line.at), seconds(took)]);
        }
        println!("{table}");
    }
    println!("The script's stages:");
    let mut table = Table::new(&["STAGE", "AT", "TOOK"]);
    let begun: Vec<(&str, Duration)> = round
        .script
        .lines
        .iter()
        .filter_map(|line| Some((line.text.strip_prefix("STAGE ")?, line.at)))
        .collect();
    for (index, (stage, at)) in begun.iter().enumerate() {
        let end = begun.get(index + 1).map_or(round.script.total, |(_, at)| *at);
        table.push(vec![(*stage).to_owned(), seconds(*at), seconds(end.saturating_sub(*at))]);
    }
    println!("{table}");
}

/// The figures of all rounds.
pub(super) fn print(rounds: &[Round]) {
    type Measure = (&'static str, fn(&Round) -> (Duration, Duration));
    const MEASURES: [Measure; 3] = [
        ("create to both nodes Ready", |round| (round.ashlar.nodes_ready, round.script.nodes_ready)),
        ("create to all kube-system pods Ready", |round| (round.ashlar.total, round.script.total)),
        ("delete", |round| (round.ashlar_deleted, round.script_deleted)),
    ];
    let mut table = Table::new(&["SECONDS", "ROUND", "ASHLAR", "SCRIPT", "RATIO"]);
    for (index, round) in rounds.iter().enumerate() {
        let number = (index + 1).to_string();
        let mut push = |title: &str, ashlar: String, script: String, ratio: String| {
            table.push(vec![title.to_owned(), number.clone(), ashlar, script, ratio]);
        };
        push("last first boot done", last_boot(&round.ashlar), last_boot(&round.script), "-".to_owned());
        for (title, measure) in MEASURES {
            let (ashlar, script) = measure(round);
            push(title, seconds(ashlar), seconds(script), format!("{:.3}", ratio((ashlar, script))));
        }
    }
    println!("{table}");
    for (title, measure) in &MEASURES[..2] {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| ratio(measure(round))).collect();
        ratios.sort_by(f64::total_cmp);
        if let Some(median) = ratios.get(ratios.len() / 2) {
            println!(
                "{title}: Ashlar takes {median:.3} of the script's time (median of {} rounds)",
                ratios.len()
            );
        }
    }
}

fn ratio((ashlar, script): (Duration, Duration)) -> f64 {
    ashlar.as_secs_f64() / script.as_secs_f64()
}

/// When the last node's first boot had ended: what comes after is the cluster's and the tool's.
fn last_boot(run: &Run) -> String {
    let done =
        |marks: &Vec<Mark>| marks.iter().find(|mark| mark.stage == "first boot is done").map(|mark| mark.at);
    let ends: Option<Vec<Duration>> =
        Node::ALL.iter().map(|node| run.marks.get(node).and_then(done)).collect();
    ends.and_then(|ends| ends.into_iter().max()).map_or_else(|| "-".to_owned(), seconds)
}

fn stages(title: &str, ashlar: &[Mark], script: &[Mark]) -> Table {
    let heading = title.to_uppercase();
    let mut table = Table::new(&[&heading, "ASHLAR AT", "TOOK", "SCRIPT AT", "TOOK"]);
    for stage in merged(ashlar, script) {
        let mut row = vec![stage.to_owned()];
        for marks in [ashlar, script] {
            let index = marks.iter().position(|mark| mark.stage == stage);
            let at = index.map(|index| marks[index].at);
            let next = index.and_then(|index| marks.get(index + 1)).map(|mark| mark.at);
            row.push(at.map_or_else(|| "-".to_owned(), seconds));
            row.push(
                at.zip(next).map_or_else(|| "-".to_owned(), |(at, next)| seconds(next.saturating_sub(at))),
            );
        }
        table.push(row);
    }
    table
}

/// Lines such as `[  12.3 s] volume x: fill it: done (4.2 s)` that took long.
fn actions(lines: &[Line]) -> Vec<(&Line, Duration)> {
    let took = |line: &Line| {
        let (_, time) = line.text.rsplit_once(": done (")?;
        parse(time.strip_suffix(')')?)
    };
    lines
        .iter()
        .filter_map(|line| Some((line, took(line)?)))
        .filter(|(_, took)| *took >= WORTH_A_LINE)
        .collect()
}

/// Reads the times that Ashlar prints: `850 ms`, `12.3 s`, `3 min 05 s`.
fn parse(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut words = text.split_whitespace();
    while let (Some(number), Some(unit)) = (words.next(), words.next()) {
        let factor = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// The action alone, without Ashlar's own clock and the time it took.
fn title(text: &str) -> String {
    let text = text.rsplit_once(": done (").map_or(text, |(text, _)| text);
    text.split_once("] ").map_or(text, |(_, text)| text).trim().to_owned()
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_printed() {
        let ms = |text: &str| parse(text).map(|time| time.as_millis());
        assert_eq!(ms("850 ms"), Some(850));
        assert_eq!(ms("12.3 s"), Some(12_300));
        assert_eq!(ms("3 min 05 s"), Some(185_000));
        assert_eq!(ms("soon or later"), None);
    }

    #[test]
    fn long_actions_are_found_in_the_output() {
        let line = |text: &str| Line { at: Duration::from_secs(9), text: text.to_owned() };
        let lines = [
            line("[       1.0 s] volume image-x: it is to hold the image: done (4.2 s)"),
            line("[       1.1 s] machine a: define it: done (12 ms)"),
            line("[       1.2 s] machine a: kubeadm certs"),
        ];
        let found: Vec<(String, u128)> =
            actions(&lines).into_iter().map(|(line, took)| (title(&line.text), took.as_millis())).collect();
        assert_eq!(found, [("volume image-x: it is to hold the image".to_owned(), 4200)]);
    }

    #[test]
    fn each_side_has_its_columns() {
        let mark = |stage: &str, at: u64| Mark { stage: stage.to_owned(), at: Duration::from_secs(at) };
        let table = stages(
            "worker",
            &[mark("kernel", 2), mark("endpoint", 5), mark("kubeadm preflight", 9)],
            &[mark("kernel", 1), mark("kubeadm preflight", 4)],
        );
        assert_eq!(
            table.to_string(),
            "WORKER             ASHLAR AT  TOOK  SCRIPT AT  TOOK\n\
             kernel                   2.0   3.0        1.0   3.0\n\
             endpoint                 5.0   4.0          -     -\n\
             kubeadm preflight        9.0     -        4.0     -\n"
        );
    }
}
