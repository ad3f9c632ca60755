//! Every bound of the server, with its reason. A bound that an operator may change is the default
//! of an option. What somebody at the other end may notice stands in PROTOCOL.md as well.

/// Longest command line in bytes, line end not counted. A body of [`BODY_BYTES`] and the longest
/// list of names fit.
pub const LINE_BYTES: usize = 4096;
/// Longest line before sign-in: enough for `signin`, a name and a password of full length.
pub const LINE_BYTES_BEFORE_SIGNIN: usize = 512;
/// Bytes of command lines executed on a connection before it signs in. Who needs more is not
/// signing in.
pub const BYTES_BEFORE_SIGNIN: usize = 2048;
/// Longest message text in bytes.
pub const BODY_BYTES: usize = 2000;
/// Users that one user may block.
pub const BLOCKS: usize = 1000;
/// Longest message text by count in the coded dialect, in bytes.
pub const COUNTED_BYTES: usize = 64 << 10;
/// Longest tag of a command in the coded dialect, in bytes.
pub const TAG_BYTES: usize = 16;
/// Longest key of a message in the coded dialect, in bytes.
pub const KEY_BYTES: usize = 64;
/// Longest name of an installation in a key that counts, in bytes.
pub const KEY_INSTALLATION_BYTES: usize = 32;
/// Counters below the highest of an installation that are remembered.
pub const KEY_WINDOW: usize = 1024;
/// How long an installation's counters are remembered, in milliseconds.
pub const KEY_WINDOW_MS: u64 = 30 * 24 * 3_600_000;
/// How long the key of a one-shot is remembered, in milliseconds.
pub const KEY_SINGLE_MS: u64 = 24 * 3_600_000;
/// Keys of one-shots remembered for one user; one more is refused.
pub const KEYS_SINGLE: usize = 10_000;
/// Installations remembered for one user; one more is refused.
pub const KEY_INSTALLATIONS: usize = 256;
/// Keys remembered in all: what a segment of the journal repeats stays far below the 4 GiB that
/// its places can tell. One more is refused.
pub const KEYS_ALL: usize = 1_000_000;
/// Letters, counted once for each reader, whose delivery one connection can await; it is told of
/// what is too many. All of them may be settled in one turn, and are well below what a connection's
/// output may hold then.
pub const RECEIPTS: usize = 5_000;
/// The same of all connections together: about 100 MB.
pub const RECEIPTS_ALL: usize = 1_000_000;
/// A coded session from which no byte has come for so long is pinged, in milliseconds.
pub const PING_MS: u64 = 120_000;
/// It is given up if none comes for so long after that, in milliseconds.
pub const PONG_MS: u64 = 20_000;
/// Most recipients of one `send (…)`.
pub const LIST_RECIPIENTS: usize = 100;
/// Longest user name in bytes, which are ASCII characters.
pub const NAME_BYTES: usize = 32;
/// Longest password in bytes.
pub const PASSWORD_BYTES: usize = 256;
/// Longest away text in bytes.
pub const AWAY_BYTES: usize = 400;
/// How much of a word that is not understood is repeated in the answer, in characters.
pub const ECHO_CHARS: usize = 40;
/// Users of the password file that a hint looks at.
pub const HINT_NAMES: usize = 1000;

/// Fewest PBKDF2 rounds a password line may name.
pub const ROUNDS_LEAST: u32 = 4096;
/// Most PBKDF2 rounds a password line may name: 100 s of this server's work for one sign-in.
pub const ROUNDS_MOST: u32 = 100_000_000;
/// PBKDF2 rounds of a new password (OWASP's figure for HMAC-SHA-256).
pub const ROUNDS_DEFAULT: u32 = 600_000;
/// Most PBKDF2 rounds of a verifier that a user makes himself. Each of his sign-ins from telnet
/// costs the server that much, so it is no more than the server would have chosen.
pub const ROUNDS_OWN_MOST: u32 = ROUNDS_DEFAULT;
/// Shortest salt of a password line in bytes.
pub const SALT_BYTES_LEAST: usize = 8;
/// Longest salt of a password line in bytes.
pub const SALT_BYTES_MOST: usize = 64;
/// Longest part of a nonce that one end of a SCRAM exchange may choose, in bytes.
pub const NONCE_BYTES_MOST: usize = 128;
/// Longest user in a SCRAM message in bytes: a name of [`NAME_BYTES`], each character escaped.
pub const SCRAM_USER_BYTES_MOST: usize = 3 * NAME_BYTES;
/// PBKDF2 rounds a turn spends on a sign-in: about 0.2 ms, so nobody else waits noticeably.
pub const ROUNDS_A_SLICE: u32 = 2048;
/// Password checks under way at a time; the turn's slice goes round them.
pub const CHECKS_UNDER_WAY: usize = 4;
/// Password checks that may wait for their turn. A trusted peer's wait beyond that as well: each
/// connection has at most one, so connections bound them.
pub const CHECKS_WAITING: usize = 64;

/// Failed sign-ins in a row of one (name, address) that block it.
pub const MAX_FAILURES: u32 = 3;
/// How long such a block lasts, in seconds.
pub const BLOCK_TIME_S: u64 = 60;
/// How long a failure is remembered that led to no block, in milliseconds.
pub const FAILURE_MEMORY_MS: u64 = 3_600_000;
/// (name, address) pairs remembered by the lockout; one with the fewest failures goes first.
pub const LOCKOUT_ENTRIES: usize = 65_536;
/// Failed sign-ins on one connection, whatever the names, that close it.
pub const TRIES_A_CONNECTION: u32 = 3;

/// Seconds without a command line after which a session is signed off.
pub const IDLE_TIMEOUT_S: u64 = 1800;
/// Time to sign in, in milliseconds; waiting in our own queue is not counted.
pub const SIGNIN_MS: u64 = 120_000;
/// Parts in which that time is counted: one in which the disk kept from the peer what was said to
/// him is not counted, so that nobody is sent away before he was greeted, or just then.
pub const SIGNIN_PARTS: u8 = 4;
/// When the first session of a user is looked at after a second one tries, in milliseconds after
/// the attempt: a live machine's kernel answers within 250 ms.
pub const PROBE_AT_MS: [u64; 8] = [10, 50, 250, 1000, 2000, 3000, 4000, PROBE_DEAD_MS];
/// A first session that has not acknowledged the probe by then is dead, in milliseconds.
pub const PROBE_DEAD_MS: u64 = 5000;
/// Pause before it is looked again whether the probe was said, where the disk takes its time, in
/// milliseconds.
pub const PROBE_PAUSE_MS: u64 = 250;

/// Letters that may wait for one user.
pub const MAILBOX_LETTERS: usize = 10_000;
/// Bytes of text that may wait for one user.
pub const MAILBOX_BYTES: u64 = 16 << 20;
/// Percent of a mailbox that the messages of one sender may take: all of it, for who is written to
/// by one program only shall lose nothing by it. An operator sets less against a flooder.
pub const SENDER_SHARE: u8 = 100;
/// Letters shown to a plain client beyond which the next wait until these have been written.
pub const CREDIT_LETTERS: u32 = 256;
/// Bytes of text shown to a plain client beyond which the next wait until these have been written.
pub const CREDIT_BYTES: u32 = 256 << 10;
/// Letters that a plain client's kernel has acknowledged and that are kept in case it vanishes;
/// the oldest beyond that are settled.
pub const WINDOW_LETTERS: usize = 1000;
/// The same in bytes of text.
pub const WINDOW_BYTES: u64 = 1 << 20;
/// Longest look-back of `wholast`, in minutes; sign-offs are remembered that long.
pub const WHOLAST_MINUTES: u64 = 1440;
/// Names shown of a longer list.
pub const NAMES_SHOWN: usize = 100;
/// While someone is signed in the journal hears of it this often, in milliseconds, so that after
/// a crash `wholast` knows until when they were there.
pub const ALIVE_MS: u64 = 60_000;

/// Connections at most, whatever the descriptor limit.
pub const CONNECTIONS: usize = 50_000;
/// Descriptors kept for everything that is not a connection.
pub const DESCRIPTORS_KEPT: usize = 64;
/// Connections that are over, and still keep their descriptors, for which others may come in: at
/// the limit, whoever leaves makes room at once. The others have to wait until those are freed,
/// which takes as long as the disk does, or files could not be opened any more.
pub const OVER_BESIDE: usize = DESCRIPTORS_KEPT / 2;
/// Connections accepted a turn, so that a flood of them starves nobody.
pub const ACCEPTS_A_TURN: usize = 64;
/// Connections the kernel queues for us while a turn runs.
pub const BACKLOG: i32 = 4096;
/// Command lines of one connection executed a turn.
pub const COMMANDS_A_TURN: usize = 128;
/// Work of one turn after which the lines that are left wait for the next one. A letter for one
/// user is one, and one more for each [`WORK_BYTES`] of its text; so a turn is a few dozen
/// milliseconds at most, whatever its lines ask for.
pub const WORK_A_TURN: usize = 16_384;
/// Work that one connection may ask for before all others that wait have their share. What is left
/// of the turn then goes round again, so that one who is alone has all of it.
pub const WORK_A_SHARE: usize = 1024;
/// Bytes of a text whose delivery to one user is as much work as all else about it.
pub const WORK_BYTES: usize = 1024;
/// Users of the password file who are looked at for as much work as a letter.
pub const WORK_LOOKS: usize = 64;
/// Things that may wait to be said which count as no work, as `help` and its like ask for: what is
/// more waits unread. They wait for the disk, if it is at a sync, so that without a bound whoever
/// sends such lines fills the memory, or has more said to him at once than he may have waiting.
pub const SMALL_TALK: usize = 1024;
/// Things that a turn has to say from which on it listens once more before it says them: as many
/// writes take a millisecond, a look takes one system call.
pub const MUCH_TO_SAY: usize = 256;
/// Answers wait for letters and for what is still to be read, but no longer than about this, in
/// ms: the next answer of a program that goes on may go out with them.
pub const ANSWER_WAIT_MS: u64 = 1;
/// Answers that wait so at a time. Where so many are answered, the same one does not come again
/// soon, and what is written later is fetched into the processor's cache twice.
pub const ANSWERS_WAITING: usize = 256;
/// Bytes read from one connection a turn.
pub const READ_BYTES_A_TURN: usize = 64 << 10;
/// Output waiting for a connection above which its commands wait, in bytes.
pub const OUTPUT_PAUSE_BYTES: usize = 256 << 10;
/// Output waiting for a connection above which it is closed, in bytes; its letters stay.
pub const OUTPUT_CLOSE_BYTES: usize = 1 << 20;
/// Buffers that wait for output may take so much together, in bytes; what is more goes back to the
/// allocator. A text of a few hundred bytes to each of tens of thousands finds room in it.
pub const POOL_BYTES: usize = 16 << 20;
/// The largest of them: what somebody once needed for a long text serves few others.
pub const POOLED_BYTES: usize = 64 << 10;
/// Output waiting for a connection that is written before more is put together, in bytes: a text
/// that thousands are shown in one turn does not lie in memory thousands of times.
pub const WRITE_EARLY_BYTES: usize = 32 << 10;
/// Memory for the buffers of all connections together, in MiB: what was sent and is no whole
/// command yet, and what was said and is not taken. Those with the largest are closed beyond it.
pub const BUFFERS_MIB: usize = 256;
/// Percent of it from which on no more strangers are let in.
pub const SHED_FROM_PERCENT: usize = 80;
/// Percent of it that are left when the largest have been closed, so that those are looked for
/// rarely.
pub const BUFFERS_LESS_PERCENT: usize = 75;
/// A connection that takes none of its output for that long is closed, in milliseconds.
pub const STALLED_MS: u64 = 30_000;
/// How long the write side stays open after the last byte was acknowledged, to see whether the
/// peer answers with a reset, in milliseconds.
pub const WITNESS_MS: u64 = 200;
/// How long a closed connection is drained until the peer closes too, in milliseconds.
pub const LINGER_MS: u64 = 2000;
/// When a connection is looked at for acknowledged letters, in milliseconds after each other.
pub const OBSERVE_MS: [u64; 3] = [10, 50, 250];
/// How long a stop may take to tell everyone, in milliseconds.
pub const STOP_MS: u64 = 5000;
/// Strangers who have not signed in from which on some newcomers are dropped, so that those who
/// do sign in find a place among those who never will (OpenSSH's MaxStartups).
pub const UNSIGNED_BEGIN: usize = 256;
/// How many of a hundred are dropped there; from there on it rises in a straight line.
pub const UNSIGNED_PERCENT: u64 = 30;
/// Strangers who have not signed in at most: all newcomers are dropped.
pub const UNSIGNED_FULL: usize = 1024;
/// Strangers of one network who have not signed in: an office behind one address that comes in at
/// nine finds a place, and one address cannot take all of [`UNSIGNED_BEGIN`].
pub const UNSIGNED_OF_ONE: u32 = 32;
/// Strangers of one network who may connect at once, and in a minute after that.
pub const NEW_AT_ONCE: u64 = 120;
/// Time in which one more of them may, in milliseconds.
pub const NEW_EACH_MS: u64 = 60_000 / NEW_AT_ONCE;
/// What a stranger's network owes for a connection on which a sign-in failed and none succeeded,
/// in milliseconds (OpenSSH's PerSourcePenalties, as the next four).
pub const PENALTY_FAILED_MS: u64 = 5000;
/// The same for one on which none was tried.
pub const PENALTY_NOTHING_TRIED_MS: u64 = 1000;
/// The same for one whose time to sign in ran out.
pub const PENALTY_TOO_SLOW_MS: u64 = 10_000;
/// What a network must owe before it is barred; then it is until nothing is left.
pub const PENALTY_FROM_MS: u64 = 15_000;
/// The most that it can owe: ten minutes.
pub const PENALTY_MOST_MS: u64 = 600_000;
/// Networks whose penalties, or whose pace, are remembered; the one that owes least goes first.
pub const SOURCES: usize = 65_536;
/// Connections that are turned away for one reason are told to the log as a number, this often, in
/// milliseconds.
pub const BARS_LOGGED_MS: u64 = 10_000;
/// How often it is looked at whether the certificate is still valid, in milliseconds.
pub const CERTIFICATE_LOOK_MS: u64 = 6 * 3_600_000;
/// Work that is nobody's line waits for a sync that is under way, but a piece of it is done this
/// often all the same, in milliseconds.
pub const WORK_WAITS_MS: u64 = 1;
/// A sync that takes so long is told to the operator, in milliseconds.
pub const SLOW_SYNC_MS: u64 = 5000;
/// A turn that takes so long was kept by the disk, in milliseconds: what peers have to do in a
/// given time they are not late with, for nobody could hear them meanwhile.
pub const LONG_TURN_MS: u64 = 1000;
/// Bytes of texts that a bench has under way at once: server and load keep them in memory, and who
/// has none left is ended without ending what he has started. Beyond it the command line is wrong.
pub const BENCH_BYTES_UNDER_WAY: usize = 1 << 30;
/// How long to wait before accepting again when descriptors are used up, in milliseconds.
pub const ACCEPT_RETRY_MS: u64 = 1000;

/// Time that a stranger has to become a peer over TLS, in milliseconds: two round trips, and who
/// takes longer does not speak TLS.
pub const TLS_HANDSHAKE_MS: u64 = 10_000;
/// Bytes of a handshake in which a peer must be done: the longest greeting, with keys that no
/// quantum computer breaks, is a tenth of it.
pub const TLS_HANDSHAKE_BYTES: usize = 16 << 10;
/// Handshakes answered a turn, each 0.1 ms of work with a key of an elliptic curve: nobody else
/// waits for a millisecond because of them. The others have the next turns.
pub const TLS_HANDSHAKES_A_TURN: usize = 8;
/// Bytes of a file with certificates or a key: those of a long chain are a hundredth of it.
pub const CERTIFICATE_FILE_BYTES: u64 = 1 << 20;
/// Bytes of ciphertext read at once. TLS has so much room ready for a connection that idles; what
/// it takes beyond that is counted.
pub const TLS_READ_BYTES: u64 = 4 << 10;
/// Bytes encrypted at once, before they are handed on.
pub const TLS_WRITE_BYTES: usize = 64 << 10;

/// Room kept ready on the disk for the journal, in MiB: two segments of 16. Messages are taken as
/// long as one of them is whole; that one is for what must go on when the disk is full.
pub const RESERVE_MIB: u32 = 32;
/// Least of that, if there is any: in half of it the largest message must find room.
pub const RESERVE_MIB_LEAST: u32 = 2;
/// Most of that: a segment is read at once when the server starts.
pub const RESERVE_MIB_MOST: u32 = 512;
/// Files kept ready: the last is never used for messages.
pub const SPARES: u32 = 2;
/// Size of the file of a segment, in bytes.
pub const SEGMENT_FILE_BYTES: u32 = (RESERVE_MIB / SPARES) << 20;
/// Part of that behind which the journal goes on in a new segment, and which is kept for the rest
/// of the turn, for what the segment repeats, and for marks when the disk is full.
pub const SLACK_PART: u32 = 4;
/// Part of the same that the records of one turn may fill before lines wait for the next turn: a
/// million bytes are far more than a disk needs to be busy.
pub const BATCH_PART: u32 = 16;
/// Files of drained segments that are kept ready besides: so that a journal that is written and
/// drained at the same pace neither makes nor removes files. A further one is given back.
pub const SPARES_MORE: usize = 2;
/// Bytes of zeros written at once: some ten microseconds.
pub const FILL_BYTES: usize = 64 << 10;
/// Pieces of that which are given back together, still less than a tenth of a millisecond.
pub const CUT_PIECES: usize = 4;
/// Pieces of that which are synced together: for a MiB a disk needs little longer than for one.
pub const FILL_PIECES_A_SYNC: usize = 16;
/// Pieces of that in one turn, if as much is needed to be ahead of what is written.
pub const FILL_PIECES_A_TURN: usize = 16;
/// How long to wait before a full disk is asked for room again, in milliseconds.
pub const FILL_RETRY_MS: u64 = 5000;
/// Records that one step of compaction looks at: well below a millisecond.
pub const COMPACT_RECORDS: usize = 256;
/// Bytes of a segment read at once where letters are shown one after another: some hundred of them,
/// in less time than as many system calls take.
pub const READ_AHEAD_BYTES: usize = 64 << 10;
/// Lost letters that a notice to their reader names: with the longest names it fits into a message.
pub const LOSSES_NAMED: usize = 20;

/// Largest password file read, in bytes: a million users.
pub const USERS_FILE_BYTES: u64 = 256 << 20;
/// Longest line of the password file in bytes: a verifier with the longest salt takes 240.
pub const USERS_LINE_BYTES: usize = 1024;
/// How long an edit of the password file waits for another one to finish, in milliseconds.
pub const USERS_LOCK_MS: u64 = 10_000;
/// Time that others have, in milliseconds, to take note of a server whose certificate they see
/// for the first time: a hundred of them, each with two flushes to a slow disk.
pub const KNOWN_HOSTS_LOCK_MS: u64 = 10_000;
/// Pause between two tries at the lock of the password file, in milliseconds: the server waits for
/// nothing but its sockets, so it comes back later.
pub const USERS_RETRY_MS: u64 = 20;
/// Passwords being changed at a time, the work of checking and stretching them included. One save
/// is a few flushes of the disk, so the last of them is saved within about a second.
pub const PASSWORD_CHANGES: usize = 64;

const _: () = assert!(TLS_HANDSHAKE_MS < SIGNIN_MS);
const _: () = assert!(SIGNIN_MS.is_multiple_of(SIGNIN_PARTS as u64));
const _: () = assert!(LINE_BYTES > BODY_BYTES + 16 + NAME_BYTES);
const _: () = assert!(LINE_BYTES_BEFORE_SIGNIN > "signin ".len() + NAME_BYTES + 1 + PASSWORD_BYTES);
const _: () =
    assert!(BYTES_BEFORE_SIGNIN >= LINE_BYTES_BEFORE_SIGNIN * TRIES_A_CONNECTION as usize);
const _: () = assert!(WORK_A_SHARE * 4 <= WORK_A_TURN);
const _: () = assert!(OUTPUT_PAUSE_BYTES < OUTPUT_CLOSE_BYTES);
const _: () = assert!((CREDIT_BYTES as usize) < OUTPUT_CLOSE_BYTES / 2);
const _: () = assert!(WRITE_EARLY_BYTES < OUTPUT_PAUSE_BYTES);
const _: () = assert!(BUFFERS_LESS_PERCENT < SHED_FROM_PERCENT && SHED_FROM_PERCENT < 100);
const _: () = assert!(UNSIGNED_OF_ONE as usize <= UNSIGNED_BEGIN && UNSIGNED_BEGIN < UNSIGNED_FULL);
const _: () = assert!(PENALTY_TOO_SLOW_MS < PENALTY_FROM_MS && PENALTY_FROM_MS < PENALTY_MOST_MS);
const _: () = assert!(AWAY_BYTES <= BODY_BYTES);
/// The longest receipt: code, word, id and name.
const RECEIPT_BYTES: usize = "115 delivered 4294967295.4294967295 \r\n".len() + NAME_BYTES;
const _: () = assert!(RECEIPTS * RECEIPT_BYTES < OUTPUT_CLOSE_BYTES / 2);
const _: () = assert!(RECEIPTS >= LIST_RECIPIENTS && RECEIPTS < RECEIPTS_ALL);
const _: () = assert!(RESERVE_MIB_LEAST <= RESERVE_MIB && RESERVE_MIB <= RESERVE_MIB_MOST);
// Behind a full batch the largest message still fits: also a broadcast to everyone, by default.
const _: () = assert!(
    (SEGMENT_FILE_BYTES / SLACK_PART - SEGMENT_FILE_BYTES / BATCH_PART) as usize
        > CONNECTIONS * (NAME_BYTES + 2) + COUNTED_BYTES + 1024
);
const _: () = {
    let file = (RESERVE_MIB_LEAST / SPARES) << 20;
    let most = COUNTED_BYTES + LIST_RECIPIENTS * (NAME_BYTES + 2) + 1024;
    assert!((file / SLACK_PART - file / BATCH_PART) as usize > most);
};
const _: () = assert!(USERS_LINE_BYTES > NAME_BYTES + 1 + PASSWORD_BYTES);
const _: () = assert!(ROUNDS_LEAST <= ROUNDS_DEFAULT && ROUNDS_DEFAULT <= ROUNDS_MOST);
