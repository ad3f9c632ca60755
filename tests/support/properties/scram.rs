//! SCRAM: two ends that know the same keys agree, whoever they are; any other message in the place
//! of one of theirs is refused; what is read is written as it was.

use super::Input;
use mms::crypto::{HASH_BYTES, stored_key};
use mms::scram::{Binding, Channel, ClientExchange, Exchange, Keys, Secret, client_first};

const BINDING: Binding = [0x5A; 32];

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (place, at, flip) = (input.byte(), usize::from(input.byte()), input.byte());
    let seed = input.byte();
    let other = input.line();
    let user = String::from_utf8_lossy(input.line()).into_owned();
    let other = String::from_utf8_lossy(other);
    read(&other);
    let iterations = 4096 + u32::from(seed);
    let salt = vec![seed; 8 + usize::from(seed % 57)];
    let keys = keys(&[seed; HASH_BYTES], &[!seed; HASH_BYTES], &salt, iterations);
    // A message in another's place: one that is made up, or the same with a bit of it turned.
    let forged = |message: &str| match flip {
        0 => other.clone().into_owned(),
        _ => {
            let mut bytes = message.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let replace = |number: u8, message: String| {
        if place % 5 == number { forged(&message) } else { message }
    };
    let nonce = "fyko+d2lbbFgONRv9qkxdawL";
    let (channel, binding) = match place / 5 % 4 {
        0 => (Channel::Plain, None),
        1 => (Channel::Plain, Some(&BINDING)),
        2 => (Channel::Unoffered, None),
        _ => (Channel::Exporter(BINDING), Some(&BINDING)),
    };
    let (mut client, begun) = ClientExchange::begin(&user, nonce, channel);
    let first = replace(1, begun.clone());
    let Ok(known) = client_first(&first, binding) else {
        // A name that is empty, too long or holds control characters has no exchange.
        let named = !user.is_empty() && !user.chars().any(char::is_control);
        let escaped = user.replace('=', "=3D").replace(',', "=2C");
        assert!(first != begun || !named || escaped.len() > 96, "{begun:?}");
        return;
    };
    assert!(first != begun || known.user == user);
    let (server, challenge) = Exchange::begin(&known, &salt, iterations, "3rfcNHYJY1ZVvWVs7j");
    let asked = replace(2, challenge.clone());
    if client.answer(&asked, Secret::Keys(&keys)).is_err() {
        return assert!(asked != challenge || first != begun, "{asked:?}");
    }
    let answer = client.work(1).expect("kept keys need no work");
    let last = replace(3, answer.clone());
    let stored = stored_key(&[seed; HASH_BYTES]);
    let proof = server.finish(&last, &stored, &[!seed; HASH_BYTES]);
    let untouched = first == begun && asked == challenge && last == answer;
    assert_eq!(proof.is_some(), untouched, "{first:?} {asked:?} {last:?}");
    let Some(proof) = proof else { return };
    let told = replace(4, proof.clone());
    let extended = told.strip_prefix(&proof).is_some_and(|more| more.starts_with(','));
    assert_eq!(client.verify(&told).is_ok(), told == proof || extended, "{told:?}");
    assert_eq!(client.keys(), Some(&keys));
}

/// Any text in any place is refused or means something; nothing panics.
fn read(text: &str) {
    for binding in [None, Some(&BINDING)] {
        let Ok(first) = client_first(text, binding) else { continue };
        let channel = match text.as_bytes()[0] {
            b'n' => Channel::Plain,
            b'y' => Channel::Unoffered,
            _ => Channel::Exporter(BINDING),
        };
        assert!(text.starts_with('n') || text.starts_with('y') == binding.is_none(), "{text}");
        let (_, nonce) = text.rsplit_once(",r=").expect("it has a nonce");
        let (_, again) = ClientExchange::begin(&first.user, nonce, channel);
        assert_eq!(again, text, "a message has one spelling");
    }
    if let Some(keys) = Keys::parse(text) {
        let again = keys.to_text();
        assert_eq!(Keys::parse(&again).as_ref(), Some(&keys));
        // Leading zeros of the rounds are all that may differ.
        assert!(again == text || again.len() < text.len(), "{text}");
        assert!(!format!("{keys:?}").contains(text));
    }
}

fn keys(client: &[u8; HASH_BYTES], server: &[u8; HASH_BYTES], salt: &[u8], rounds: u32) -> Keys {
    let [salt, client, server] = [salt, &client[..], &server[..]].map(base64);
    let text = format!("SCRAM-SHA-256-KEYS${rounds}:{salt}${client}:{server}");
    let keys = Keys::parse(&text).expect("keys");
    assert_eq!(keys.to_text(), text);
    keys
}

/// Written anew, so that the program's own encoder is not its only witness.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(*three.get(n).unwrap_or(&0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
