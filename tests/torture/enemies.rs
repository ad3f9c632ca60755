//! Those who lay siege: each of them a thread that does one kind of harm while it is on, at a rate
//! that leaves the machine to others, and lets go of all it holds while it is quiet.

use crate::support::rng::Rng;
use crate::support::server::PASSWORD;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Quiet,
    Siege,
    Over,
}

/// What all who take part share.
pub struct War {
    address: SocketAddr,
    phase: AtomicU8,
    /// The next address to come from.
    next: AtomicUsize,
    connections: AtomicUsize,
    /// Of those who came with another protocol: how many were answered and sent away.
    sent_away: AtomicUsize,
}

impl War {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            phase: AtomicU8::new(Phase::Quiet as u8),
            next: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sent_away: AtomicUsize::new(0),
        }
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Quiet,
            1 => Phase::Siege,
            _ => Phase::Over,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// How much there was of it.
    pub fn told(&self) -> String {
        let sent_away = self.sent_away.load(Ordering::SeqCst);
        let connections = self.connections.load(Ordering::SeqCst);
        format!("{connections} connections of enemies, {sent_away} with other protocols sent away")
    }

    /// Calls `act` again and again while there is a siege, and `rest` when a quiet time begins.
    fn wage<T: Default>(&self, pace: Duration, mut act: impl FnMut(&mut T)) {
        let mut held = T::default();
        loop {
            match self.phase() {
                Phase::Siege => act(&mut held),
                // All that was held is let go of.
                Phase::Quiet => held = T::default(),
                Phase::Over => return,
            }
            std::thread::sleep(pace);
        }
    }

    /// Connects from this address; nobody waits for an enemy for long.
    fn connect(&self, from: Ipv4Addr) -> Option<TcpStream> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.set_write_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.connect_timeout(&self.address.into(), Duration::from_secs(2)).ok()?;
        Some(socket.into())
    }

    /// Connects from an address that has not been here for long: nothing is held against it.
    fn come(&self) -> Option<TcpStream> {
        let n = self.next.fetch_add(1, Ordering::SeqCst) % 50_000;
        let [_, _, high, low] = u32::try_from(n).unwrap_or(0).to_be_bytes();
        self.connect(Ipv4Addr::new(127, 7, high, low))
    }

    /// Connects as one who has a password, and waits for `word`.
    fn come_as(&self, n: usize, lines: &str, word: &str) -> Option<TcpStream> {
        let mut stream = self.connect(Ipv4Addr::new(127, 8, 0, u8::try_from(n).unwrap_or(0)))?;
        _ = SockRef::from(&stream).set_recv_buffer_size(8 << 10);
        stream.write_all(lines.as_bytes()).ok()?;
        let (mut heard, mut buffer) = (vec![], [0; 512]);
        while !String::from_utf8_lossy(&heard).contains(word) {
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => heard.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    fn sign_in(&self, n: usize) -> Option<TcpStream> {
        self.come_as(n, &format!("signin enemy{n} {PASSWORD}\n"), "Welcome enemy")
    }
}

/// Those who take part, each in a thread of his own.
pub const ENEMIES: [fn(&War); 11] =
    [slow, endless, guess, vanish, foreign, half_way, crowd, deaf, loud, hoard, nimble];

/// Writes what the socket takes; false if the connection is over.
fn push(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    match stream.write(bytes) {
        Ok(count) => count > 0,
        Err(e) => e.kind() == ErrorKind::WouldBlock,
    }
}

/// Reads all that has come.
fn drain(mut stream: &TcpStream) -> bool {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Sixty who send a byte now and then, and never a line. They stay in quiet times, or they would
/// never have stayed for as long as they may.
fn slow(war: &War) {
    let mut held: Vec<TcpStream> = vec![];
    while war.phase() != Phase::Over {
        if held.len() < 60 && war.phase() == Phase::Siege {
            held.extend((0..10).filter_map(|_| war.come()));
        }
        held.retain_mut(|stream| stream.write(b"s").is_ok());
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A mebibyte without a line end, each time.
fn endless(war: &War) {
    let block = [b'x'; 64 << 10];
    war.wage(Duration::from_millis(500), |_: &mut ()| {
        let Some(mut stream) = war.come() else { return };
        for _ in 0..16 {
            if stream.write(&block).is_err() {
                return;
            }
        }
    });
}

/// Three guesses from each of a hundred addresses, which come again while they are blocked.
fn guess(war: &War) {
    let mut n = 0_u16;
    war.wage(Duration::from_millis(200), |_: &mut ()| {
        n = (n + 1) % 100;
        let [high, low] = n.to_be_bytes();
        let Some(mut stream) = war.connect(Ipv4Addr::new(127, 9, high, low)) else { return };
        let name = if n.is_multiple_of(3) { "victim".into() } else { format!("nobody{n}") };
        _ = stream.write_all(format!("signin {name} guess\n").repeat(3).as_bytes());
        _ = stream.read_to_end(&mut vec![]);
    });
}

/// Who connects and is gone, in each of the ways there are; often from the same address.
fn vanish(war: &War) {
    let mut n = 0;
    war.wage(Duration::from_millis(30), |_: &mut ()| {
        n += 1;
        let same = Ipv4Addr::new(127, 10, 0, 1);
        let stream = if n % 2 == 0 { war.come() } else { war.connect(same) };
        let Some(mut stream) = stream else { return };
        match n % 4 {
            0 => _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            1 => _ = stream.write(b"signin victim x\n"),
            2 => _ = stream.shutdown(Shutdown::Write),
            _ => {}
        }
    });
}

/// Other protocols and noise: who is let in is told something and sent away.
fn foreign(war: &War) {
    let mut rng = Rng::new(7);
    let others = crate::strangers::others();
    war.wage(Duration::from_millis(50), |_: &mut ()| {
        let Some(mut stream) = war.come() else { return };
        if rng.one_in(4) {
            let mut noise = vec![0; rng.below(4000)];
            rng.fill(&mut noise);
            _ = stream.write(&noise);
            _ = stream.shutdown(Shutdown::Write);
            _ = stream.read_to_end(&mut vec![]);
            return;
        }
        _ = stream.write(&rng.pick(&others).1);
        if stream.read_to_end(&mut vec![]).is_ok() {
            war.sent_away.fetch_add(1, Ordering::SeqCst);
        }
    });
}

/// Forty who stop at the password, in either dialect.
fn half_way(war: &War) {
    let first = mms::crypto::encode_text("n,,n=victim,r=abcdefghijklmnop");
    let coded = format!("coded 1\nsignin victim tool scram {first}\n");
    war.wage(Duration::from_millis(150), |held: &mut Vec<TcpStream>| {
        if held.len() >= 40 {
            held.remove(0);
        }
        let Some(mut stream) = war.come() else { return };
        let words = if held.len().is_multiple_of(2) { "signin victim\n" } else { &coded };
        if stream.write_all(words.as_bytes()).is_ok() {
            held.push(stream);
        }
    });
}

/// A crowd that uses up all descriptors for some seconds, and then goes.
fn crowd(war: &War) {
    let mut since = Instant::now();
    war.wage(Duration::from_millis(10), |held: &mut Vec<TcpStream>| {
        match since.elapsed().as_secs() {
            0..5 if held.len() < 500 => held.extend((0..10).filter_map(|_| war.come())),
            0..7 => {}
            7..20 => held.clear(),
            _ => since = Instant::now(),
        }
    });
}

/// Four who ask and never read.
fn deaf(war: &War) {
    let questions = b"help\n".repeat(200);
    war.wage(Duration::from_millis(100), |held: &mut [Option<TcpStream>; 4]| {
        for (n, place) in held.iter_mut().enumerate() {
            match place {
                None => *place = war.sign_in(n),
                Some(stream) if push(stream, &questions) => {}
                Some(_) => *place = None,
            }
        }
    });
}

/// Two who broadcast, and one of whose texts would drive a terminal.
fn loud(war: &War) {
    let lines = [
        b"broadcast noise, noise\n".repeat(50),
        b"broadcast \x1b[2J\n/\x9b\naway \x07\n".repeat(20),
    ];
    war.wage(Duration::from_millis(500), |held: &mut [Option<TcpStream>; 2]| {
        for ((n, place), lines) in held.iter_mut().enumerate().zip(&lines) {
            match place {
                None => *place = war.sign_in(4 + n),
                Some(stream) if push(stream, lines) && drain(stream) => {}
                Some(_) => *place = None,
            }
        }
    });
}

/// Four who begin long texts and never end them.
fn hoard(war: &War) {
    war.wage(Duration::from_millis(500), |held: &mut [Option<TcpStream>; 4]| {
        for (n, place) in held.iter_mut().enumerate() {
            let n = 6 + n;
            match place {
                None => {
                    let lines = format!("coded 1\nsignin enemy{n} online plain {PASSWORD}\n");
                    *place = war.come_as(n, &lines, "230 ");
                    if let Some(stream) = place {
                        push(stream, b"send b0 {65536}\r\n");
                        push(stream, &[b'x'; 60_000]);
                    }
                }
                Some(stream) if drain(stream) => {}
                Some(_) => *place = None,
            }
        }
    });
}

/// One who signs in and off as fast as he may, and leaves letters behind.
fn nimble(war: &War) {
    war.wage(Duration::from_millis(300), |_: &mut ()| {
        let Some(mut stream) = war.sign_in(12) else { return };
        push(&stream, b"send enemy13 x\nsend (enemy14 enemy13 nobody) y\nwhoelse\nsignout\n");
        _ = stream.set_nonblocking(false);
        _ = stream.read_to_end(&mut vec![]);
    });
}
