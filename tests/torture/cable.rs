//! A cable is pulled while letters travel over it: a pair of network devices between two name
//! spaces of this machine, one for the server and one for the reader. The machine's own network is
//! not touched. Root only.

use crate::campaign::{Skip, Tally};
use crate::device::program;
use crate::readers::{Program, Story, With, programs};
use crate::support::rng::Rng;
use crate::support::server::eventually;
use std::process::{Child, Command, Stdio};

/// The variable that tells the test that it is alone in a network of its own.
const INSIDE: &str = "MMS_TORTURE_NETWORK";
const HERE: &str = "10.99.0.1";
const THERE: &str = "10.99.0.2";

/// Runs the test of this name once more, in a network of its own, and `here` if that cannot be.
pub fn in_a_network_of_its_own(test: &str, here: impl FnOnce(Option<Skip>)) {
    if std::env::var_os(INSIDE).is_some() {
        return here(None);
    }
    if let Err(skip) = program("unshare", &["--net", "ip", "link", "set", "lo", "up"]) {
        return here(Some(skip));
    }
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--include-ignored", "--nocapture"]).env(INSIDE, "yes");
    assert!(command.status().unwrap().success(), "{test}");
}

/// The reader's machine: nothing but a network.
struct Machine(Child);

impl Machine {
    /// Lays the cable.
    fn new() -> Result<Self, Skip> {
        program("ip", &["link", "set", "lo", "up"])?;
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "1000000"]).stdin(Stdio::null());
        // There scripts/torture looks for what is left behind.
        command.current_dir(std::env::temp_dir());
        let machine = Self(command.spawn().map_err(|e| Skip(format!("unshare: {e}")))?);
        let id = machine.0.id().to_string();
        let apart = || {
            let network = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
            (network(&id)? != network("self")?).then_some(())
        };
        eventually("another network", apart);
        let pair = ["type", "veth", "peer", "name", "there", "netns", &id];
        program("ip", &[&["link", "add", "here"][..], &pair].concat())?;
        program("ip", &["addr", "add", &format!("{HERE}/30"), "dev", "here"])?;
        program("ip", &["link", "set", "here", "up"])?;
        machine.does(&["ip", "addr", "add", &format!("{THERE}/30"), "dev", "there"])?;
        machine.does(&["ip", "link", "set", "there", "up"])?;
        Ok(machine)
    }

    /// Words before a program that is to run there.
    fn words(&self) -> [String; 2] {
        ["nsenter".into(), format!("--net=/proc/{}/ns/net", self.0.id())]
    }

    fn does(&self, words: &[&str]) -> Result<String, Skip> {
        let [nsenter, network] = self.words();
        program(&nsenter, &[&[&*network][..], words].concat())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn cable(state: &str) {
    if let Err(Skip(why)) = program("ip", &["link", "set", "here", state]) {
        panic!("{why}");
    }
}

/// The cable is pulled while letters come, and the reader dies before it is back.
pub fn pulled(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let machine = Machine::new()?;
    let mut rng = Rng::from_env(9);
    let with = programs(tally, &[With::Telnet, With::Nc, With::Recv]);
    // As a stranger the reader would be turned away: he comes more than 120 times a minute.
    let trusted = format!("127.0.0.0/8,{THERE}");
    let mut story = Story::new(&["--bind", "0.0.0.0", "--trusted", &trusted]);
    let [nsenter, network] = machine.words();
    for cycle in 0..count {
        story.send(rng.below(50));
        let with = with[cycle % with.len()];
        let mut reader = Program::start(&story.server, with, &[&nsenter, &network], HERE);
        story.is_online();
        let number = story.sent + rng.below(100);
        let letters = 100 + rng.below(100);
        let stops = rng.one_in(2);
        story.send_meanwhile(letters, || {
            // Somewhere among them.
            let come = || reader.has_shown(number).then_some(());
            eventually("letters", come);
            if stops {
                // His kernel acknowledges what nobody will ever read.
                reader.stops();
            }
            cable("down");
        });
        if !reader.is_killed_reading() {
            // Nothing is on its way to him any more.
            eventually("rest", || reader.is_at_rest().then_some(()));
            reader.kill();
        }
        story.saw(&reader);
        cable("up");
        tally.cycles += 1;
        story.drain_now_and_then(cycle);
    }
    story.end(tally);
    Ok(())
}
