//! MMS, a messaging server that one can use with telnet. This page is the map.
//!
//! Bytes become values in [`proto`]; values become decisions in [`core`]; decisions become durable
//! in [`store`]; only then does [`net`] speak. One thread does all of it, in **turns**. Each
//! border is a plain enum: [`proto::command::Command`] and [`proto::reply::Reply`] between the
//! wire and the rules, [`core::event::Event`] and [`core::event::Action`] between the rules and
//! the world.
//!
//! PROTOCOL.md says what a client sees, and is tested; README.md says how to run the server.
//!
//! # The turn
//!
//! ```text
//! wait    until a socket, a signal or the nearest deadline wants something
//! now     the clocks, read once for the whole turn; what it takes if it has to wait for the disk
//!         is left out of all later times
//! read    every ready port, bounded each so that none starves the others; lines become events
//! decide  the hub handles each event: replies and records gather in memory; if they are many, the
//!         turn reads and decides once more, so that each reader is written to once
//! commit  one write and one fdatasync for the whole turn, if a promise stands on it; the disk may
//!         take its time for that, while the next turns read and decide, and gather for the next
//! speak   only now are replies and letters handed to the ports, each written at once; who is only
//!         answered waits for what is still to be read, where nobody waits for the disk
//! prepare a piece of the room that the journal will be written to
//! reap    what was closed is freed, and the hub hears of it first in the next turn
//! ```
//!
//! Nothing leaves before what it promises is durable. That order lives in [`engine`], a type, and
//! not in the loop, so that the tests run the same code on a simulated disk and clock. A failed
//! commit ends the process: starting again, and replaying the journal, is the one way back.
//!
//! A letter is stored first and forwarded then, for everyone: online and offline are one path, and
//! a reader who vanishes in mid-write loses nothing.
//!
//! # The arrows
//!
//! ```text
//!  main -> cli -> net ----> engine ---> store
//!           |      |          |           |
//!           |      |          v           v     store needs core's records only
//!           |      +-------> core <-------+
//!           |                  |
//!           |                  v
//!           +--> client ---> proto              limits, time, digits, crypto, scram, sys:
//!                                              leaves, for anyone
//!           |
//!           +--> bench                          another program: it knows the server by its wire
//! ```
//!
//! Of `store`, `client` names the trait of a disk, so that its inbox can be tried on a bad one.
//!
//! `core` knows no socket, file, clock or log: an event and the time go in, actions come out.
//! `proto` knows no state. Only `net` and two files of `store` can block or fail.
//!
//! # The tour
//!
//! Begin with [`core::event`] and [`core::hub`], then [`engine`], then [`net::Server`].
//!
//! | where | what |
//! |---|---|
//! | `main.rs` | parse, run, one line on error, exit code |
//! | [`limits`] | every bound, with its reason |
//! | [`fault`] | promises broken on purpose, in builds made for that |
//! | [`time`] | time as a value |
//! | [`digits`] | numbers as text, fast |
//! | `sys` | system calls that no crate wraps: a sync in the background, among others |
//! | [`crypto`] | HMAC, a password stretched in slices, forgetting |
//! | [`scram`] | SCRAM-SHA-256, both ends: sign in without telling the password, bound to TLS |
//! | [`engine`] | hub and spool in the one order that keeps the promise |
//! | [`logging`] | the log: one write a turn, one line an event |
//! | **[`proto`]** | **bytes to values and back** |
//! | [`proto::line`] | framing: lines out of bytes, however they were cut |
//! | [`proto::telnet`] | takes IAC sequences out and answers them |
//! | [`proto::foreign`] | other protocols, known by their first bytes |
//! | [`proto::text`], [`proto::name`] | what may stand in a line, and in a name |
//! | [`proto::id`] | a letter's number, as it is told and written |
//! | [`proto::password`] | what a new password may be |
//! | [`proto::command`] | the grammar, and the table that help and hints are made from |
//! | [`proto::reply`] | everything the server can say, refusals and farewells included |
//! | [`proto::plain`] | the wording of it for people |
//! | [`proto::coded`], `letter_line` | the same for programs: tags, keys, codes; letters |
//! | [`proto::coded_client`], [`proto::receipt`] | the same as a client reads and writes it |
//! | **[`core`]** | **the rules** |
//! | [`core::event`] | what can happen, and what can be done about it |
//! | [`core::hub`] | the one entry, lines, deadlines |
//! | `core::hub::signin` | password, lockout, the look at a first session, welcome |
//! | `core::hub::send` | who gets a letter, and what the sender is told |
//! | `core::hub::coded` | what only programs ask: the switch, SCRAM, pings, acknowledgements |
//! | `core::hub::who` | what is known of a user; who is there, who was, being away |
//! | `core::hub::block` | who takes no messages from whom, and who is told of others |
//! | `core::hub::passwd` | a user's own change of his password, from the prompt to the file |
//! | `core::hub::receipts` | settling letters, and telling who asked that they are delivered |
//! | `core::hub::leave` | the end of a session; the password file that was read again |
//! | `core::hub::losses` | whom a lost letter was for is told |
//! | `core::hub::notes` | what the log is told |
//! | `core::hub::due` | times that run out: to sign in, to say something, to answer |
//! | `core::hub::restore` | what the journal holds becomes mailboxes again |
//! | `core::session` | what one connection may do, when it was last heard |
//! | `core::keys` | the senders' own keys: what was sent before is not stored again |
//! | [`core::mailbox`] | letters shown, acknowledged and settled |
//! | [`core::accounts`] | who exists, and what a reload changes |
//! | [`core::password`] | verifiers, and comparing a password with one in slices |
//! | [`core::lockout`] | failures by name and address, without a timer |
//! | [`core::deadlines`] | who must be looked at when |
//! | [`core::hints`] | what somebody may have meant |
//! | [`core::record`] | what outlives the process, as values |
//! | **[`store`]** | **what touches the file system** |
//! | [`store::disk`] | the seam: a directory, or a simulated one |
//! | [`store::record`] | a record as a line of bytes with a checksum |
//! | [`store::pen`] | the frame of a record, and what many records share, written |
//! | [`store::files`] | what the files of a spool are called, and where a segment ends |
//! | [`store::spool`] | the journal: append; below it `commit`, `read`, `compact`, `room` |
//! | `store::spool::stretch` | a part of it in memory |
//! | [`store::ready`] | files of zeros, so that a full disk can be written to |
//! | [`store::recovery`] | the journal at the start: torn, damaged (`damage`), or whole |
//! | [`store::losses`] | what is lost and must still be told |
//! | [`store::foresight`] | what a start would find and repair |
//! | [`store::custody`] | what an operator decides over letters |
//! | [`store::ledger`] | which segment is still needed |
//! | [`store::survey`] | a look at a spool that changes nothing |
//! | [`store::users`] | the password file: read (`line`), and changed (`edit`) |
//! | **[`net`]** | **the shell: sockets, clocks, signals** |
//! | `net::server` | the turn |
//! | `net::listen` | the listening socket |
//! | `net::server::accept`, `read`, `speak`, `memory` | who comes, is heard, is told, must go |
//! | `net::server::secure` | who comes over TLS: handshakes, before the rules hear of them |
//! | `net::guard` | which strangers come in: caps, penalties, early drop |
//! | `net::ports` | one connection: buffers, what has arrived, closing |
//! | `net::pool` | buffers for what is said, while nobody uses them |
//! | `net::ports::secure` | the same where TLS stands between the text and the socket |
//! | `net::tls` | what TLS is at the server: a certificate, a session, its bytes |
//! | `net::validity` | from when to when a certificate is valid |
//! | `net::tls_absent`, `client::tls_absent` | in the place of TLS, in a build without it |
//! | `net::saves` | changes of the password file, without waiting for whoever has it locked |
//! | `net::clock`, `net::signals`, `net::network` | one thing each |
//! | **[`client`]** | **the other end of the wire** |
//! | [`client::link`] | one connection without the socket: sign-in, questions and answers |
//! | [`client::oneshot`] | a command that connects, asks and ends; what is tried again |
//! | [`client::sender`] | messages of scripts, until they are stored or delivered |
//! | [`client::model`] | the companion: typed, come, shown (`telling`, `question`, `passwd`) |
//! | [`client::desk`] | model, inbox and keys in the one order in which nothing is lost |
//! | `client::marks` | what the companion says of messages that are delivered |
//! | [`client::screen`] | what it shows, in the words of telnet |
//! | [`client::inbox`] | letters kept before they are acknowledged; keys that never repeat |
//! | [`client::run`], `client::prompt` | its threads and its socket; what a person types at |
//! | `client::hidden` | what a person types and nobody shall see |
//! | [`client::keys`] | saved keys, so that no password need be kept |
//! | [`client::trust`], [`client::known`] | the way to a server, and by what it is known |
//! | [`client::stream`], `client::tls` | the socket, and TLS around it |
//! | [`client::shown`] | texts of others made harmless, refusals in words, JSON |
//! | **[`mod@bench`]** | **how fast it is on this machine, beside a bare relay and others** |
//! | `bench::run`, `bench::work` | one measurement, and the kinds of work |
//! | `bench::load`, `bench::tongue` | the users that it plays, and what they say to which server |
//! | `bench::relay` | what handing over bytes costs, without anything else |
//! | `bench::contender`, `bench::started` | who is measured, how it is started, and that it ends |
//! | `bench::turns` | the same work of several by turns; who fails is left out and told |
//! | `bench::targets` | what is to be reached, and whether it is |
//! | `bench::table`, `bench::picture` | the same as a table and as bars |
//! | `bench::histogram` | latencies in little memory, and their picture in a terminal |
//! | `bench::machine`, `bench::clock`, `bench::trouble` | one thing each |
//! | **[`cli`]** | **the command line, one file a subcommand** |
//! | `cli::account`, `cli::report` | what the commands for scripts share, and what they tell |
//! | `cli::trust` | whether the way is TLS, and by what the server is known |
//! | `cli::bench::suite`, `shown` | several measurements at once, and how they are shown |
//! | `cli::server::check` | what a start would find, as a list of checks |
//! | `cli::spool::export`, `custody` | what is written out of a spool, and decided over letters |
//! | `cli::certificate`, `certificate_absent` | the server's certificate: read, made, or none |

pub mod bench;
pub mod cli;
pub mod client;
pub mod core;
pub mod crypto;
pub mod digits;
pub mod engine;
pub mod fault;
pub mod limits;
pub mod logging;
pub mod net;
pub mod proto;
pub mod scram;
pub mod store;
#[allow(unsafe_code)] // system calls that no crate wraps safely
mod sys;
pub mod time;
