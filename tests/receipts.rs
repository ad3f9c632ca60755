//! Stories of receipts: all the ways in which a letter is settled, and all in which it is not
//! delivered after all. They are sessions as in PROTOCOL.md, played against the real engine.

#![allow(missing_docs)]

mod support;

use mms::limits::{CREDIT_LETTERS, RECEIPTS, WINDOW_LETTERS};
use std::fmt::Write as _;
use support::player::{Block, play};

const CAST: &str = "\
(users: fred, Tim, libero)
(fred has signed in as a tool)
fred> receipts on
fred< 268 receipts on
";

#[track_caller]
fn plays(text: &str) {
    let block = Block { line: 1, text: text.into() };
    if let Err(lie) = play(&block) {
        panic!("line {}: {}", lie.line, lie.why);
    }
}

/// A story that begins with fred as a tool, who has asked for receipts.
#[track_caller]
fn story(text: &str) {
    plays(&format!("{CAST}{text}"));
}

fn id(n: usize) -> String {
    format!("1800000000.{n}")
}

#[test]
fn a_line_of_a_plain_reader_delivers_what_he_had_before_it() {
    story(
        "\
(Tim has signed in)
fred> send Tim one
fred< 250 1800000000.1 sent Tim
Tim< >> fred: one
Tim>
fred< 115 delivered 1800000000.1 Tim
(Tim's machine falls silent)
fred> send Tim two
fred< 250 1800000000.2 sent Tim
Tim< >> fred: two
Tim>
(Tim's machine answers again)
Tim>
fred< 115 delivered 1800000000.2 Tim
",
    );
}

#[test]
fn an_orderly_end_of_a_plain_reader_delivers_and_a_break_does_not() {
    story(
        "\
(Tim has signed in)
fred> send Tim one
fred< 250 1800000000.1 sent Tim
Tim< >> fred: one
(Tim's connection breaks)
(Tim has connected)
Tim> signin Tim tim1
Tim< >> Welcome Tim, you have 1 message waiting:
Tim< >>      (again) fred: one
(Tim closes)
fred< 115 delivered 1800000000.1 Tim
(Tim has signed in)
",
    );
}

#[test]
fn what_is_older_than_a_listeners_window_is_delivered() {
    let mut text = String::from("(Tim has signed in)\n");
    for n in 1..=WINDOW_LETTERS + 2 {
        let (id, said) = (id(n), format!("m{n}"));
        _ = write!(text, "fred> send Tim {said}\nfred< 250 {id} sent Tim\nTim< >> fred: {said}\n");
        if n > WINDOW_LETTERS {
            _ = writeln!(text, "fred< 115 delivered 1800000000.{} Tim", n - WINDOW_LETTERS);
        }
    }
    story(&text);
}

#[test]
fn what_stands_before_a_timing_mark_is_delivered() {
    story(
        "\
(Tim has signed in)
(Tim sends IAC NOP)
fred> send Tim one
fred< 250 1800000000.1 sent Tim
Tim< >> fred: one
Tim< IAC DO TIMING-MARK
fred> send Tim two
fred< 250 1800000000.2 sent Tim
Tim< >> fred: two
(Tim sends IAC WILL TIMING-MARK)
fred< 115 delivered 1800000000.1 Tim
Tim< IAC DO TIMING-MARK
(Tim's connection breaks)
",
    );
}

#[test]
fn one_acknowledgement_of_many_tells_each_and_in_order() {
    let most = CREDIT_LETTERS as usize;
    let mut text = String::from("(Tim has signed in as a listener)\n");
    for n in 1..=most {
        let said = format!("m{n}");
        _ = write!(text, "fred> send Tim {said}\nfred< 250 {} sent Tim\n", id(n));
        _ = writeln!(text, "Tim< 100 {} 1800000000001 - fred {said}", id(n));
    }
    _ = writeln!(text, "Tim> ack {}", id(most));
    for n in 1..=most {
        _ = writeln!(text, "fred< 115 delivered {} Tim", id(n));
    }
    story(&text);
}

#[test]
fn nobody_who_did_not_ask_is_told() {
    plays(
        "\
(users: fred, Tim)
(fred has signed in as a person)
(Tim has signed in as a person)
fred> @1 send Tim one
fred< 250 @1 1800000000.1 sent Tim
Tim< 100 1800000000.1 1800000000001 - fred one
fred> receipts on
fred< 268 receipts on
Tim> ack 1800000000.1
fred> send =k Tim two
fred< 250 1800000000.2 sent Tim
Tim< 100 1800000000.2 1800000000001 - fred two
fred> receipts off
fred< 268 receipts off
Tim> ack 1800000000.2
fred> send =k Tim two
fred< 250 1800000000.2 known
fred> receipts on
fred< 268 receipts on
fred> send =k Tim two
fred< 250 1800000000.2 known
fred< 115 delivered 1800000000.2 Tim
(fred's connection breaks)
(fred has connected)
fred> signin fred fred1
fred< >> Welcome fred, you have no messages waiting
fred> receipts on
fred< >> 'receipts' is no command; 'help' lists the commands
",
    );
}

#[test]
fn before_the_sign_in_nobody_can_ask() {
    plays(
        "\
(users: fred, Tim)
(fred has connected)
fred> coded 1
fred< 200 coded 1 mms/0.1.0 scram-sha-256 plain line=4096 body=65536 receipts
fred> @1 receipts on
fred< 530 @1 signin-first
",
    );
}

#[test]
fn a_connection_hears_only_of_what_was_sent_on_it() {
    story(
        "\
(Tim has signed in as a person)
fred> send =k Tim one
fred< 250 1800000000.1 sent Tim
Tim< 100 1800000000.1 1800000000001 - fred one
Tim> receipts on
Tim< 268 receipts on
Tim> send Tim note to self
Tim< 250 1800000000.2 sent Tim
Tim< 100 1800000000.2 1800000000001 - Tim note to self
Tim> ack 1800000000.2
Tim< 115 delivered 1800000000.2 Tim
fred< 115 delivered 1800000000.1 Tim
",
    );
}

#[test]
fn who_blocks_the_sender_meanwhile_does_not_tell_that_he_was_there() {
    story(
        "\
(Tim has signed in)
(libero has signed in as a person)
fred> send =k (Tim libero) one
fred< 251 1800000000.1 Tim=sent libero=sent
Tim< >> fred: one
libero< 100 1800000000.1 1800000000001 - fred one
libero> block fred
libero< 266 blocked fred
libero> ack 1800000000.1
Tim> whoelse
Tim< >> User libero is online
fred< 115 delivered 1800000000.1 Tim
fred> send =k (Tim libero) one
fred< 250 1800000000.1 known
fred< 115 delivered 1800000000.1 Tim
",
    );
}

#[test]
fn the_letters_of_a_removed_user_are_never_delivered() {
    story(
        "\
fred> send =k Tim one
fred< 250 1800000000.1 saved Tim
(the operator removes Tim)
fred> send =k Tim one
fred< 250 1800000000.1 known
(the operator adds Tim)
fred> send =k Tim one
fred< 250 1800000000.1 known
(Tim has signed in)
fred> send =l Tim two
fred< 250 1800000000.2 sent Tim
Tim< >> fred: two
Tim>
fred< 115 delivered 1800000000.2 Tim
",
    );
}

#[test]
fn a_letter_that_could_not_be_shown_is_not_delivered() {
    story(
        "\
fred> send =k Tim broken
fred< 250 1800000000.1 saved Tim
fred> send Tim whole
fred< 250 1800000000.2 saved Tim
(the disk damages the text broken)
(Tim has connected)
Tim> signin Tim tim1
Tim< >> Welcome Tim, you have 2 messages waiting:
Tim< >> a message from fred was damaged on the disk and cannot be shown
Tim< >>      fred: whole
fred> send =k Tim broken
fred< 250 1800000000.1 known
Tim> whoelse
Tim< >> Nobody else is online
fred< 115 delivered 1800000000.2 Tim
",
    );
}

#[test]
fn what_a_list_left_out_is_not_delivered() {
    plays(
        "\
(users: fred, Tim, libero)
(options: --mailbox-letters 1)
(fred has signed in as a tool)
fred> receipts on
fred< 268 receipts on
fred> send Tim one
fred< 250 1800000000.1 saved Tim
fred> send =k (Tim libero) two
fred< 251 1800000000.2 libero=saved Tim=full
(Tim has connected)
Tim> signin Tim tim1
Tim< >> Welcome Tim, you have 1 message waiting:
Tim< >>      fred: one
Tim>
fred< 115 delivered 1800000000.1 Tim
fred> send Tim three
fred< 250 1800000000.3 sent Tim
Tim< >> fred: three
Tim>
fred< 115 delivered 1800000000.3 Tim
fred> send =k (Tim libero) two
fred< 250 1800000000.2 known
fred< 116 unwatched 1800000000.2 unknown
(libero has connected)
libero> signin libero libero1
libero< >> Welcome libero, you have 1 message waiting:
libero< >>      fred: two
libero>
fred< 115 delivered 1800000000.2 libero
",
    );
}

#[test]
fn too_much_is_told_and_comes_when_there_is_room() {
    let mut text = String::new();
    for n in 1..=RECEIPTS {
        _ = write!(text, "fred> send Tim m\nfred< 250 {} saved Tim\n", id(n));
    }
    let over = id(RECEIPTS + 1);
    _ = write!(
        text,
        "\
fred> send =k (libero Tim) over
fred< 251 {over} libero=saved Tim=saved
fred< 116 unwatched {over} busy
(libero has connected)
libero> signin libero libero1
libero< >> Welcome libero, you have 1 message waiting:
libero< >>      fred: over
libero>
fred> receipts off
fred< 268 receipts off
fred> receipts on
fred< 268 receipts on
fred> send =k (libero Tim) over
fred< 250 {over} known
fred< 115 delivered {over} libero
"
    );
    story(&text);
}

#[test]
fn a_removed_user_takes_no_room() {
    let mut text = String::new();
    for n in 1..=RECEIPTS {
        _ = write!(text, "fred> send Tim m\nfred< 250 {} saved Tim\n", id(n));
    }
    let more = id(RECEIPTS + 1);
    _ = write!(
        text,
        "\
(the operator removes Tim)
(libero has signed in)
fred> send libero more
fred< 250 {more} sent libero
libero< >> fred: more
libero>
fred< 115 delivered {more} libero
"
    );
    story(&text);
}
