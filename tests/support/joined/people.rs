//! The companions of a joined simulation and the people at them: what is typed, what a companion
//! wishes, what is shown, and what becomes of it when the process is killed between two deeds.

use super::client::Start;
use super::ledger::{Message, Shown};
use super::world::{Loss, USERS, World};
use crate::support::sim_disk::{Aftermath, SimDisk};
use mms::client::desk::{Desk, Wish};
use mms::client::model::End as Ended;
use mms::client::screen::Tone;
use mms::time::Millis;

/// A companion that has lost its server waits at least so long, in milliseconds.
const PAUSE_MS: u64 = 500;

impl World {
    pub fn start(&mut self, device: usize) {
        let password = self.passwords[self.clients[device].user];
        self.start_as(device, Start { password, saved: true, patient: false, home: true });
    }

    pub fn start_as(&mut self, device: usize, start: Start) {
        self.note(format!("{device} starts, {start:?}"));
        self.clients[device].start(start, &mut self.rng);
        self.work(device);
    }

    /// The process is gone, and perhaps the machine with it, which then says nothing more.
    pub fn kill(&mut self, device: usize, aftermath: Aftermath) {
        self.note(format!("{device} is killed, {aftermath:?}"));
        if aftermath == Aftermath::ProcessOnly {
            self.hang_up(device);
        } else if let Some(conn) = self.clients[device].conn {
            self.lose(conn, Loss::ServerUnaware);
        }
        let client = &mut self.clients[device];
        client.forget();
        client.disk.restart(aftermath, &mut self.rng);
    }

    /// True if its disk has crashed, and with it the process.
    fn crashed(&mut self, device: usize) -> bool {
        let crashed = self.clients[device].disk.crashed();
        if crashed {
            let all = [Aftermath::ProcessOnly, Aftermath::LoseAll, Aftermath::Torn];
            let aftermath = *self.rng.pick(&all);
            self.kill(device, aftermath);
        }
        crashed
    }

    /// It thinks, and its disk crashes, as was said before.
    pub fn crash(&mut self, device: usize, aftermath: Aftermath) {
        let client = &mut self.clients[device];
        let desk = client.desk.as_mut().expect("it runs");
        desk.wishes(self.now);
        assert!(client.disk.crashed(), "it has not come so far");
        self.kill(device, aftermath);
    }

    /// Types a message to these users, or to everyone; its number.
    pub fn type_message(&mut self, device: usize, to: &[usize], more: &str) -> usize {
        let number = self.ledger.messages.len();
        let client = &self.clients[device];
        let body = format!("m{number}{more}");
        let names: Vec<String> = to.iter().map(|user| format!("u{user}")).collect();
        let line = match &names[..] {
            [] => format!("broadcast {body}"),
            [one] => format!("send {one} {body}"),
            list => format!("send ({}) {body}", list.join(" ")),
        };
        let others = (0..USERS).filter(|&user| user != client.user);
        let message = Message {
            from: (device, client.life),
            sender: client.user,
            to: if to.is_empty() { others.collect() } else { to.iter().copied().collect() },
            everyone: to.is_empty(),
            body,
            ..Message::default()
        };
        self.ledger.messages.push(message);
        self.type_line(device, &line, Some(number));
        number
    }

    pub fn type_line(&mut self, device: usize, line: &str, number: Option<usize>) {
        let head: String = line.chars().take(60).collect();
        self.note(format!("{device} types: {head}"));
        self.clients[device].typed.push_back(number);
        self.input(device, |desk, now| desk.typed(line, now));
    }

    pub fn leave(&mut self, device: usize) {
        self.note(format!("{device} leaves"));
        self.clients[device].leaving = true;
        self.input(device, |desk, now| desk.model.leave(now));
    }

    /// Something happens to a companion, and it does what follows.
    pub fn input(&mut self, device: usize, happens: impl FnOnce(&mut Desk<SimDisk>, Millis)) {
        let Some(desk) = &mut self.clients[device].desk else { return };
        happens(desk, self.now.mono);
        if !self.crashed(device) {
            self.work(device);
        }
    }

    /// What the driver does behind each input; what is on the paper may wait for a prompt. Killed
    /// at any point.
    pub fn work(&mut self, device: usize) {
        if self.by_hand {
            return;
        }
        self.think(device);
        if self.unseen.contains(&device) {
            self.say(device);
            return;
        }
        let prompt = self.rng.one_in(2);
        for deed in 0..4 {
            match deed {
                _ if self.restless && self.rng.one_in(1000) => {
                    return self.kill(device, Aftermath::ProcessOnly);
                }
                0 if !prompt => _ = self.print(device, usize::MAX),
                1 => _ = self.say(device),
                2 if prompt && !self.restless => _ = self.print(device, usize::MAX),
                3 => _ = self.tell(device),
                _ => {}
            }
        }
    }

    /// What a companion wishes is taken down: lines on its paper, connections. True if there was
    /// anything.
    pub fn think(&mut self, device: usize) -> bool {
        let Some(desk) = &mut self.clients[device].desk else { return false };
        let wishes = desk.wishes(self.now);
        if self.crashed(device) {
            return true;
        }
        let any = !wishes.is_empty();
        for wish in wishes {
            self.grant(device, wish);
        }
        any
    }

    fn grant(&mut self, device: usize, wish: Wish) {
        let now = self.now.mono;
        let client = &mut self.clients[device];
        match wish {
            Wish::Show(line, letter) => {
                if line.tone != Tone::Letter {
                    client.answer.clone_from(&line.text);
                }
                client.paper.push_back((line.text, letter));
            }
            Wish::SignedIn => client.signed_in = true,
            Wish::Connect => {
                client.connecting = true;
                let before = client.asked.replace(now);
                if before.is_some_and(|before| now.since(before) < PAUSE_MS) {
                    self.fail(&format!("{device} connects again without a pause"));
                }
            }
            Wish::HangUp => {
                client.signed_in = false;
                self.hang_up(device);
            }
            Wish::Names(_) => {}
            Wish::Done => match client.typed.pop_front() {
                Some(Some(number)) => {
                    let answer = client.answer.clone();
                    self.note(format!("{device} is told of m{number}: {answer}"));
                    let done = self.ledger.answered(number, &answer);
                    self.hold(done);
                }
                Some(None) => {}
                None => self.fail(&format!("{device} has dealt with what nobody typed")),
            },
            Wish::End(end) => self.end(device, &end),
        }
    }

    /// It ends by itself: what is on its paper is shown, what it has said last is written.
    fn end(&mut self, device: usize, end: &Ended) {
        let text = match end {
            Ended::Left => "left".into(),
            Ended::Unanswered(lines) => format!("{lines} unanswered"),
            Ended::Trouble(trouble) => trouble.to_string(),
        };
        self.note(format!("{device} ends: {text}"));
        self.print(device, usize::MAX);
        self.tell(device);
        self.say(device);
        self.hang_up(device);
        let client = &mut self.clients[device];
        client.forget();
        client.ended = Some(text);
        client.disk.restart(Aftermath::ProcessOnly, &mut self.rng);
    }

    /// Up to so many lines of its paper are shown. The desk does not know yet.
    pub fn print(&mut self, device: usize, count: usize) -> bool {
        let mut any = false;
        for _ in 0..count {
            let client = &mut self.clients[device];
            let Some((text, letter)) = client.paper.pop_front() else { break };
            any = true;
            client.screen.push(text.clone());
            let user = client.user;
            if letter.is_some() {
                client.untold = letter;
                let head: String = text.chars().take(60).collect();
                self.note(format!("{device} shows {head}"));
                let Some(shown) = Shown::parse(&text) else {
                    self.fail(&format!("unexpected: {text}"));
                };
                let fine = self.ledger.shown(device, user, &shown);
                self.hold(fine);
            }
        }
        any
    }

    /// The desk hears what was shown.
    pub fn tell(&mut self, device: usize) -> bool {
        let client = &mut self.clients[device];
        let (Some(desk), Some(letter)) = (&mut client.desk, client.untold.take()) else {
            return false;
        };
        desk.shown(letter);
        self.crashed(device);
        true
    }

    /// What it says goes on its way.
    pub fn say(&mut self, device: usize) -> bool {
        let client = &mut self.clients[device];
        let Some(desk) = &mut client.desk else { return false };
        let said = desk.take_output();
        let Some(conn) = client.conn.filter(|_| !said.is_empty()) else { return false };
        self.carry_off(conn, &said);
        let named = self.ledger.named(&String::from_utf8_lossy(&said));
        self.hold(named);
        true
    }
}
