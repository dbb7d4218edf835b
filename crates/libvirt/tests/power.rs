//! Turning hosts off: `ipmitool` against OpenIPMI's simulated BMC (`ipmi_sim`), whose host is a process, and commands that do
//! what commands do.
//!
//! All of it runs in a network namespace of its own, so that nothing of it is to be reached from anywhere; the tests inside are
//! marked as ignored so that nothing else runs them.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "power/bmc.rs"]
mod bmc;
#[path = "power/script.rs"]
mod script;

use std::process::Command;
use std::time::Duration;

use ashlar_api::HostFencing;
use ashlar_engine::effects::{EffectErrorKind, FenceTarget, Fencer, PowerState};
use ashlar_libvirt::PowerControl;

use bmc::Bmc;
use script::Script;

#[test]
fn bmcs_and_commands_turn_hosts_off() {
    let inside = "ip link set lo up && ip link add away type veth peer name far && ip link set far up && \
                  ip addr add 10.9.0.1/24 dev away && ip link set away up && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", inside, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--test-threads", "8"])
        .status()
        .unwrap();
    assert!(
        status.success(),
        "inside its namespace a test failed (as root? `ashlar setup --tests` installs ipmi_sim)"
    );
}

fn target(fencing: HostFencing) -> FenceTarget {
    FenceTarget { host: "h1".to_owned(), uri: "qemu+ssh://root@10.9.0.2/system".to_owned(), fencing }
}

fn control() -> PowerControl {
    PowerControl::default()
}

#[tokio::test]
#[ignore = "inside"]
async fn a_bmc_turns_its_host_off_and_says_so() {
    let bmc = Bmc::start(6231).await;
    let target = target(bmc.fencing("ashlar", "geheim"));
    let seen = bmc.watched();
    assert_eq!(seen.power_status(&target).await.unwrap(), PowerState::On);
    assert!(bmc.host_runs());
    seen.power_off(&target).await.unwrap();
    // A BMC says that it has begun; what is off is told by its status. On a busy machine a killed process takes its time.
    script::eventually("the host's process is gone", || !bmc.host_runs()).await;
    assert_eq!(seen.power_status(&target).await.unwrap(), PowerState::Off);
    // To ask again is no fault.
    seen.power_off(&target).await.unwrap();
    let heard = bmc.heard();
    assert_eq!(heard.matches(" chassis power ").count(), 4, "{heard}");
    assert!(!heard.contains("geheim"), "the password is in the arguments or in the environment: {heard}");
}

#[tokio::test]
#[ignore = "inside"]
async fn what_is_wrong_with_a_bmc_is_said() {
    let bmc = Bmc::start(6232).await;
    let mut said = Vec::new();
    let mut ask = async |what: &str, fencing: HostFencing| {
        let error = control().power_status(&target(fencing)).await.unwrap_err();
        said.push(format!("{what}: {:?}: {}", error.kind, bmc.without_place(&error.message)));
    };
    ask("wrong password", bmc.fencing("ashlar", "falsch")).await;
    ask("no such user", bmc.fencing("nobody", "geheim")).await;
    let with = |change: &dyn Fn(&mut ashlar_api::IpmiFencing)| {
        let mut fencing = bmc.fencing("ashlar", "geheim");
        fencing.ipmi.iter_mut().for_each(change);
        fencing
    };
    ask("cipher suite", with(&|ipmi| ipmi.cipher_suite = Some(17))).await;
    ask("no file", with(&|ipmi| ipmi.password_file.push_str("-gone"))).await;
    ask("read by others", with(&|ipmi| ipmi.password_file = bmc.file("open", "geheim", 0o644))).await;
    ask("empty", with(&|ipmi| ipmi.password_file = bmc.file("empty", "", 0o600))).await;
    ask("a key", with(&|ipmi| ipmi.password_file = bmc.file("key", &"x".repeat(80), 0o600))).await;
    ask("no name", with(&|ipmi| ipmi.address = "bmc.invalid".to_owned())).await;
    let error = PowerControl { ipmitool: "no-ipmitool".into(), ..control() };
    let error = error.power_status(&target(bmc.fencing("ashlar", "geheim"))).await.unwrap_err();
    said.push(format!("no ipmitool: {error}"));
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
#[ignore = "inside"]
async fn a_bmc_that_says_nothing_proves_nothing() {
    let bmc = Bmc::start(6233).await;
    let target = target(bmc.fencing("ashlar", "geheim"));
    bmc.freeze();
    let error = control().power_status(&target).await.unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Unreachable);
    assert_eq!(error.message, "it does not answer at 127.0.0.1, UDP port 6233");
    // It does not wait longer than it is told to.
    let impatient = PowerControl { deadline: Duration::from_secs(1), ..control() };
    let begun = std::time::Instant::now();
    let error = impatient.power_off(&target).await.unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(10) && error.message.contains("within 1 s"), "{error}");
    assert!(bmc.host_runs());
}

#[tokio::test]
#[ignore = "inside"]
async fn a_command_is_asked_as_fence_agents_are() {
    let script = Script::new(
        "echo \"$@ env $ASHLAR_FENCE_ACTION $ASHLAR_FENCE_HOST $ASHLAR_FENCE_ADDRESS\" >> $LOG; exit 0",
    );
    let (plain, full) =
        (script.fencing(&[]), script.fencing(&["--plug={host}", "--ip={address}", "--action={action}"]));
    assert_eq!(control().power_status(&target(plain.clone())).await.unwrap(), PowerState::On);
    control().power_off(&target(plain)).await.unwrap();
    control().power_off(&target(full)).await.unwrap();
    assert_eq!(
        script.log(),
        "status env status h1 10.9.0.2\noff env off h1 10.9.0.2\n\
         --plug=h1 --ip=10.9.0.2 --action=off env off h1 10.9.0.2\n"
    );
}

#[tokio::test]
#[ignore = "inside"]
async fn what_a_commands_end_means() {
    let mut said = Vec::new();
    for (what, text) in [
        ("off", "exit 2"),
        ("does not know", "echo 'PDU: login failed' >&2; exit 1"),
        ("unknown code", "exit 7"),
        ("killed", "kill -9 $$"),
        ("no such program", "exec /no/such/program"),
    ] {
        let script = Script::new(text);
        let fencing = target(script.fencing(&[]));
        let tell = |result: Result<String, ashlar_engine::effects::EffectError>| match result {
            Ok(told) => told,
            Err(error) => format!("{:?}: {}", error.kind, script.without_place(&error.message)),
        };
        let status = control().power_status(&fencing).await.map(|power| format!("{power:?}"));
        let off = control().power_off(&fencing).await.map(|()| "done".to_owned());
        said.push(format!("{what}: status {}; off {}", tell(status), tell(off)));
    }
    let missing =
        HostFencing { command: vec!["/no/such/program".to_owned()], ..Script::new("").fencing(&[]) };
    said.push(format!("missing: {}", control().power_off(&target(missing)).await.unwrap_err()));
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
#[ignore = "inside"]
async fn a_command_that_does_not_end_is_ended_with_all_that_it_started() {
    let script = Script::new("sleep 1000 & echo $! >> $LOG; wait");
    let impatient = PowerControl { deadline: Duration::from_secs(1), ..control() };
    let error = impatient.power_off(&target(script.fencing(&[]))).await.unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Unreachable);
    assert!(error.message.contains("within 1 s"), "{error}");
    let child = script.log().trim().to_owned();
    assert!(!child.is_empty());
    script::eventually("the child is gone", || !script::runs(&child)).await;
    // And one that nobody waits for any more.
    let script = Script::new("sleep 1000 & echo $! >> $LOG; wait");
    let fencing = target(script.fencing(&[]));
    let begun = tokio::spawn(async move { control().power_off(&fencing).await });
    script::eventually("it began", || !script.log().is_empty()).await;
    begun.abort();
    let child = script.log().trim().to_owned();
    script::eventually("the child is gone", || !script::runs(&child)).await;
}

#[tokio::test]
#[ignore = "inside"]
async fn a_host_answers_if_anything_comes_back() {
    let control = control();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(control.answers("h1", &format!("qemu+ssh://root@127.0.0.1:{port}/system")).await);
    drop(listener);
    assert!(control.answers("h1", &format!("qemu+ssh://root@127.0.0.1:{port}/system")).await, "it refused");
    assert!(!control.answers("h1", "qemu+ssh://root@10.9.0.2/system").await, "nobody is there");
    assert!(!control.answers("h1", "qemu+ssh://root@192.0.2.1/system").await, "there is no way there");
}
