//! What TLS costs, measured when it is asked for.

use super::{Peer, client, raw, start};
use socket2::SockRef;
use std::sync::atomic::{AtomicBool, Ordering};

/// Run it with `--release -- --ignored --nocapture --test-threads 1`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_handshake_and_of_an_idle_connection() {
    let server = start(&["fred"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (count, ticks, begun) = (4000, server.cpu_ticks(), std::time::Instant::now());
        for _ in 0..count {
            let peer = Peer::over(raw(&server), client(&server, &[version]));
            SockRef::from(&peer.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        let spent = (server.cpu_ticks() - ticks) as f64 * 1e4 / f64::from(count);
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        println!(
            "{:?}: {spent:.0} us of the server's CPU from connect to close, {rate:.0}/s from one \
             client on the same cores",
            version.version
        );
    }
    let (ticks, count) = (server.cpu_ticks(), 4000);
    for _ in 0..count {
        let peer = server.greeted();
        SockRef::from(&peer.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    let spent = (server.cpu_ticks() - ticks) as f64 * 1e4 / f64::from(count);
    println!("without TLS: {spent:.0} us");
    let mut fred = server.signed_in("fred");
    for (strangers, what) in [(0, "alone"), (4, "beside four who shake hands all the time")] {
        let asked = AtomicBool::new(true);
        let times = std::thread::scope(|scope| {
            for _ in 0..strangers {
                scope.spawn(|| {
                    while asked.load(Ordering::Relaxed) {
                        let tls = client(&server, rustls::ALL_VERSIONS);
                        let peer = Peer::over(raw(&server), tls);
                        let at_once = Some(std::time::Duration::ZERO);
                        SockRef::from(&peer.socket).set_linger(at_once).unwrap();
                    }
                });
            }
            let mut times: Vec<_> = (0..2000)
                .map(|_| {
                    let begun = std::time::Instant::now();
                    fred.ask("whoelse");
                    begun.elapsed()
                })
                .collect();
            asked.store(false, Ordering::Relaxed);
            times.sort();
            times
        });
        println!(
            "an answer without TLS, {what}: median {:?}, 99 of 100 {:?}",
            times[1000], times[1980]
        );
    }
    let (count, before) = (2000, server.memory_kib());
    let peers: Vec<Peer> = (0..count).map(|_| Peer::connect(&server)).collect();
    let each = (server.memory_kib() - before) as f64 / f64::from(count);
    println!("{each:.1} KiB a connection over TLS that has been greeted and is idle");
    drop(peers);
}
