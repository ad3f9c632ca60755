//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both ends: the client shows that it knows the password
//! without telling it, and the server shows that it knows the account. Over TLS it is
//! SCRAM-SHA-256-PLUS: both prove as well that they are the two ends of one TLS connection, by
//! what it exports (RFC 9266), so that nobody can sit between two of them.
//!
//! A leaf: messages and keys go in, messages and verdicts come out. It knows no socket, and
//! nonces are arguments. Nothing in here prints a secret.
//!
//! ```text
//! client                                         server
//! n,,n=fred,r=<nonce>                  ------>
//!                                      <------   r=<nonce><nonce>,s=<salt>,i=<rounds>
//! c=biws,r=<nonce><nonce>,p=<proof>    ------>   finish
//! verify                               <------   v=<signature>
//! ```

use crate::crypto::{HASH_BYTES, Stretch, client_key, mac, server_key, stored_key, wipe};
use crate::limits::{
    NONCE_BYTES_MOST, ROUNDS_LEAST, ROUNDS_MOST, SALT_BYTES_LEAST, SALT_BYTES_MOST,
    SCRAM_USER_BYTES_MOST,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// The scheme's name.
pub const SCHEME: &str = "SCRAM-SHA-256";
/// Bytes of entropy in a nonce that we make: 24 characters of base64.
pub const NONCE_ENTROPY_BYTES: usize = 18;
/// What the text form of [`Keys`] begins with.
const KEYS: &str = "SCRAM-SHA-256-KEYS";
/// The scheme's name where both ends prove the TLS connection, too.
pub const SCHEME_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The label under which a TLS connection exports what binds a sign-in to it (RFC 9266).
pub const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// How many bytes that are.
pub const BINDING_BYTES: usize = 32;
/// The headers of a first message, without another identity: the client binds nothing; it would,
/// but the server does not offer it; it binds to what the TLS connection exports.
const HEADER: &str = "n,,";
const HEADER_UNOFFERED: &str = "y,,";
const HEADER_EXPORTER: &str = "p=tls-exporter,,";

/// What only the two ends of one TLS connection know, exported under [`BINDING_LABEL`].
pub type Binding = [u8; BINDING_BYTES];

/// Over what a client signs in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Without TLS.
    Plain,
    /// TLS, but the server does not offer to bind to it: it ends at somebody else, as at a proxy.
    Unoffered,
    /// TLS that ends at the server itself.
    Exporter(Binding),
}

impl Channel {
    fn header(&self) -> &'static str {
        match self {
            Self::Plain => HEADER,
            Self::Unoffered => HEADER_UNOFFERED,
            Self::Exporter(_) => HEADER_EXPORTER,
        }
    }

    /// What the client repeats under its proof: the header, and what binds, in base64.
    fn repeated(&self) -> String {
        let mut bytes = self.header().as_bytes().to_vec();
        if let Self::Exporter(binding) = self {
            bytes.extend_from_slice(binding);
        }
        STANDARD.encode(bytes)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.header())
    }
}

/// Why an exchange goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramFault {
    /// The message does not have its parts in their order.
    Shape,
    /// It asks for channel binding that this connection does not have.
    ChannelBinding,
    /// The client would bind to the channel and believes that it was not offered, but it was:
    /// somebody between the two has changed what the server said.
    Downgrade,
    /// It wants to act as somebody else.
    OtherIdentity,
    /// It has a part that this program does not know.
    Extension,
    /// The user's name is empty, too long or badly escaped.
    User,
    /// The nonce is empty, too long or holds what no nonce may hold.
    Nonce,
    /// The server's nonce does not begin with the client's: an answer to somebody else.
    ForeignNonce,
    /// The salt is not base64 of 8 to 64 bytes.
    Salt,
    /// The number of rounds is none or too large.
    Rounds,
    /// The server asks for so few rounds that the proof would be easy to guess a password from.
    TooFewRounds,
    /// The kept keys belong to another salt or number of rounds: the password was changed.
    OldKeys,
    /// The server does not know the account: it cannot prove that it is the right one.
    Impostor,
}

impl fmt::Display for ScramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("the SCRAM message does not have its parts in their order"),
            Self::ChannelBinding => f.write_str("such channel binding is not offered"),
            Self::Downgrade => f.write_str("channel binding is offered, and was not heard of"),
            Self::OtherIdentity => f.write_str("signing in for somebody else is not offered"),
            Self::Extension => f.write_str("the SCRAM message has an unknown extension"),
            Self::User => f.write_str("the user in the SCRAM message is not well formed"),
            Self::Nonce => f.write_str("the nonce is not well formed"),
            Self::ForeignNonce => f.write_str("the server's nonce does not continue ours"),
            Self::Salt => {
                write!(f, "the salt is base64 of {SALT_BYTES_LEAST} to {SALT_BYTES_MOST} bytes")
            }
            Self::Rounds => write!(f, "the rounds are a number up to {ROUNDS_MOST}"),
            Self::TooFewRounds => write!(
                f,
                "the server asks for fewer than {ROUNDS_LEAST} rounds, which would help it guess \
                 the password"
            ),
            Self::OldKeys => f.write_str("the saved keys are not of the present password"),
            Self::Impostor => f.write_str("the server could not prove that it knows the account"),
        }
    }
}

/// A nonce of this entropy: base64, which holds no comma.
#[must_use]
pub fn nonce(entropy: &[u8; NONCE_ENTROPY_BYTES]) -> String {
    STANDARD.encode(entropy)
}

/// What the client's first message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// Who wants to sign in, without escapes.
    pub user: String,
    /// The client's part of the nonce.
    nonce: String,
    /// The message behind its header, as it came.
    bare: String,
    /// Over what it came, as far as the client proves it.
    channel: Channel,
}

/// Reads `n,,n=<user>,r=<nonce>`, and nothing but that. Over TLS, of which `binding` was exported,
/// `p=tls-exporter,,` may stand in the place of `n,,`; where it may not, `y,,` may.
pub fn client_first(text: &str, binding: Option<&Binding>) -> Result<ClientFirst, ScramFault> {
    let (channel, bare) = match (text.get(..2), binding) {
        (Some("n,"), _) => (Channel::Plain, text.strip_prefix(HEADER)),
        (Some("y,"), None) => (Channel::Unoffered, text.strip_prefix(HEADER_UNOFFERED)),
        (Some("y,"), Some(_)) => return Err(ScramFault::Downgrade),
        (Some("p="), Some(binding)) if text.starts_with("p=tls-exporter,") => {
            (Channel::Exporter(*binding), text.strip_prefix(HEADER_EXPORTER))
        }
        (Some("p="), _) => return Err(ScramFault::ChannelBinding),
        _ => return Err(ScramFault::Shape),
    };
    let is_for_another = text.split(',').nth(1).is_some_and(|part| part.starts_with("a="));
    let bare = bare.ok_or(match is_for_another {
        true => ScramFault::OtherIdentity,
        false => ScramFault::Shape,
    })?;
    if bare.starts_with("m=") {
        return Err(ScramFault::Extension);
    }
    let (user, nonce) = bare.split_once(',').ok_or(ScramFault::Shape)?;
    let user = unescape(user.strip_prefix("n=").ok_or(ScramFault::Shape)?)?;
    let nonce = nonce.strip_prefix("r=").ok_or(ScramFault::Shape)?;
    if nonce.contains(',') {
        return Err(ScramFault::Extension);
    }
    check_nonce(nonce)?;
    Ok(ClientFirst { user, nonce: nonce.into(), bare: bare.into(), channel })
}

/// A name without `=2C` and `=3D`.
fn unescape(text: &str) -> Result<String, ScramFault> {
    if text.is_empty() || text.len() > SCRAM_USER_BYTES_MOST || text.chars().any(char::is_control) {
        return Err(ScramFault::User);
    }
    let mut pieces = text.split('=');
    let mut user = String::from(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (c, rest) = match piece.as_bytes() {
            [b'2', b'C', ..] => (',', &piece[2..]),
            [b'3', b'D', ..] => ('=', &piece[2..]),
            _ => return Err(ScramFault::User),
        };
        user.push(c);
        user.push_str(rest);
    }
    Ok(user)
}

fn check_nonce(nonce: &str) -> Result<(), ScramFault> {
    let good = |b: u8| b.is_ascii_graphic() && b != b',';
    if (1..=NONCE_BYTES_MOST).contains(&nonce.len()) && nonce.bytes().all(good) {
        Ok(())
    } else {
        Err(ScramFault::Nonce)
    }
}

/// What the server remembers between its two messages: no key, only what was said.
pub struct Exchange {
    /// Client-first without its header, server-first, and a comma behind each.
    said: String,
    /// Where in `said` the whole nonce stands.
    nonce: std::ops::Range<usize>,
    /// What the client must repeat under its proof.
    repeated: Box<str>,
}

impl Exchange {
    /// Begins the exchange: what to remember, and the server's first message. `nonce` is the
    /// server's part: fresh, and of printable ASCII without a comma.
    #[must_use]
    pub fn begin(first: &ClientFirst, salt: &[u8], iterations: u32, nonce: &str) -> (Self, String) {
        debug_assert!(check_nonce(nonce).is_ok(), "the server made its own nonce");
        let message =
            format!("r={}{nonce},s={},i={iterations}", first.nonce, STANDARD.encode(salt));
        let said = format!("{},{message},", first.bare);
        let begin = first.bare.len() + ",r=".len();
        let nonce = begin..begin + first.nonce.len() + nonce.len();
        (Self { said, nonce, repeated: first.channel.repeated().into() }, message)
    }

    /// Looks at the client's last message. `Some`: it knows the password, and this is the server's
    /// last message, which proves that the server knows the account. `None`: it does not, or the
    /// message is none. Takes the same time for each wrong proof.
    #[must_use]
    pub fn finish(
        &self,
        client_final: &str,
        stored: &[u8; HASH_BYTES],
        server: &[u8; HASH_BYTES],
    ) -> Option<String> {
        let (unproved, proof) = client_final.rsplit_once(",p=")?;
        let (binding, nonce) = unproved.split_once(",r=")?;
        let repeated = binding.strip_prefix("c=")? == &*self.repeated;
        if !repeated || nonce != &self.said[self.nonce.clone()] {
            return None;
        }
        let mut key = decode_hash(proof)?;
        let said = [self.said.as_bytes(), unproved.as_bytes()];
        mix(&mut key, &mac(stored, &said));
        let known: bool = stored_key(&key).ct_eq(stored).into();
        wipe(&mut key);
        known.then(|| format!("v={}", STANDARD.encode(mac(server, &said))))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// What a password becomes for one salt and number of rounds. Whoever has these can sign in as
/// the user until the password is changed, but cannot tell the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    iterations: u32,
    salt: Box<[u8]>,
    client_key: [u8; HASH_BYTES],
    server_key: [u8; HASH_BYTES],
}

impl Keys {
    /// Stretches the password: all the rounds at once, 0.1 s for each 1,000,000.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut stretch = Stretch::new(password, salt, iterations);
        stretch.step(iterations);
        Self::of(&stretch, salt.into(), iterations)
    }

    /// The keys of a password that has been stretched.
    fn of(stretch: &Stretch, salt: Box<[u8]>, iterations: u32) -> Self {
        let mut salted = stretch.result();
        let keys = Self {
            iterations,
            salt,
            client_key: client_key(&salted),
            server_key: server_key(&salted),
        };
        wipe(&mut salted);
        keys
    }

    /// Reads the text form, `SCRAM-SHA-256-KEYS$<rounds>:<salt>$<ClientKey>:<ServerKey>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (work, keys) = text.strip_prefix(KEYS)?.strip_prefix('$')?.split_once('$')?;
        let (rounds, salt) = work.split_once(':')?;
        let (client, server) = keys.split_once(':')?;
        Some(Self {
            iterations: parse_rounds(rounds).ok()?,
            salt: parse_salt(salt).ok()?,
            client_key: decode_hash(client)?,
            server_key: decode_hash(server)?,
        })
    }

    /// The text form, to be kept where nobody else can read it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{KEYS}${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.client_key),
            STANDARD.encode(self.server_key)
        )
    }

    /// What a server keeps of these keys: a verifier, as a line of the password file has it.
    #[must_use]
    pub fn verifier(&self) -> String {
        format!(
            "{SCHEME}${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(stored_key(&self.client_key)),
            STANDARD.encode(self.server_key)
        )
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        wipe(&mut self.client_key);
        wipe(&mut self.server_key);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// What a client knows an account by.
#[derive(Clone, Copy)]
pub enum Secret<'a> {
    /// The password.
    Password(&'a [u8]),
    /// What was made of it earlier.
    Keys(&'a Keys),
}

/// An answer that is being worked out.
struct Answering {
    source: Source,
    /// What both ends have said.
    said: String,
    /// The client's last message without the proof.
    unproved: String,
}

/// Where the keys of an answer come from.
enum Source {
    Kept(Keys),
    Password { stretch: Stretch, salt: Box<[u8]>, iterations: u32 },
}

/// The client's end of an exchange.
pub struct ClientExchange {
    /// The first message without its header.
    bare: String,
    /// Our part of the nonce.
    nonce: String,
    channel: Channel,
    /// The server has asked, and the answer is being worked out.
    answering: Option<Answering>,
    /// Once the server has asked: the keys, and the server's signature to expect.
    answered: Option<(Keys, [u8; HASH_BYTES])>,
}

impl ClientExchange {
    /// Begins: what to remember, and the client's first message. `nonce` is fresh, and of
    /// printable ASCII without a comma; [`nonce`] makes one.
    #[must_use]
    pub fn begin(user: &str, nonce: &str, channel: Channel) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let message = format!("{}{bare}", channel.header());
        (Self { bare, nonce: nonce.into(), channel, answering: None, answered: None }, message)
    }

    /// Begins to answer the server's first message; [`ClientExchange::work`] goes on with it.
    /// Refuses a server that asks for too few rounds: the proof would help it to guess the
    /// password.
    pub fn answer(&mut self, server_first: &str, secret: Secret<'_>) -> Result<(), ScramFault> {
        if server_first.starts_with("m=") {
            return Err(ScramFault::Extension);
        }
        let mut parts = server_first.splitn(4, ',');
        let mut part = |name: &str| {
            parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramFault::Shape)
        };
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        let theirs = nonce.strip_prefix(&self.nonce).ok_or(ScramFault::ForeignNonce)?;
        check_nonce(theirs)?;
        let (salt, iterations) = (parse_salt(salt)?, parse_rounds(rounds)?);
        let source = match secret {
            Secret::Password(password) => {
                let stretch = Stretch::new(password, &salt, iterations);
                Source::Password { stretch, salt, iterations }
            }
            Secret::Keys(keys) if keys.iterations == iterations && keys.salt == salt => {
                Source::Kept(keys.clone())
            }
            Secret::Keys(_) => return Err(ScramFault::OldKeys),
        };
        let unproved = format!("c={},r={nonce}", self.channel.repeated());
        let said = format!("{},{server_first},{unproved}", self.bare);
        self.answering = Some(Answering { source, said, unproved });
        Ok(())
    }

    /// Does at most so many of the rounds that the server asked for: 10,000 take 1 ms. Once none is
    /// left, this is the proof: the client's last message.
    pub fn work(&mut self, rounds: u32) -> Option<String> {
        if let Source::Password { stretch, .. } = &mut self.answering.as_mut()?.source
            && !stretch.step(rounds)
        {
            return None;
        }
        let Answering { source, said, unproved } = self.answering.take()?;
        let keys = match source {
            Source::Kept(keys) => keys,
            Source::Password { stretch, salt, iterations } => Keys::of(&stretch, salt, iterations),
        };
        let mut proof = mac(&stored_key(&keys.client_key), &[said.as_bytes()]);
        mix(&mut proof, &keys.client_key);
        let signature = mac(&keys.server_key, &[said.as_bytes()]);
        self.answered = Some((keys, signature));
        Some(format!("{unproved},p={}", STANDARD.encode(proof)))
    }

    /// Looks at the server's last message: it knows the account, or it is an impostor.
    pub fn verify(&self, server_final: &str) -> Result<(), ScramFault> {
        let (_, expected) = self.answered.as_ref().ok_or(ScramFault::Shape)?;
        let signature = server_final.strip_prefix("v=").ok_or(ScramFault::Shape)?;
        let signature = signature.split(',').next().and_then(decode_hash);
        let known: bool = signature.ok_or(ScramFault::Shape)?.ct_eq(expected).into();
        if known { Ok(()) } else { Err(ScramFault::Impostor) }
    }

    /// The keys that answered, which may be kept instead of the password.
    #[must_use]
    pub fn keys(&self) -> Option<&Keys> {
        self.answered.as_ref().map(|(keys, _)| keys)
    }
}

impl fmt::Debug for ClientExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientExchange").finish_non_exhaustive()
    }
}

fn parse_rounds(text: &str) -> Result<u32, ScramFault> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ScramFault::Rounds);
    }
    match text.parse() {
        Ok(rounds) if rounds < ROUNDS_LEAST => Err(ScramFault::TooFewRounds),
        Ok(rounds) if rounds <= ROUNDS_MOST => Ok(rounds),
        _ => Err(ScramFault::Rounds),
    }
}

fn parse_salt(text: &str) -> Result<Box<[u8]>, ScramFault> {
    let salt = STANDARD.decode(text).map_err(|_| ScramFault::Salt)?;
    if (SALT_BYTES_LEAST..=SALT_BYTES_MOST).contains(&salt.len()) {
        Ok(salt.into())
    } else {
        Err(ScramFault::Salt)
    }
}

fn decode_hash(text: &str) -> Option<[u8; HASH_BYTES]> {
    // Longer texts are not worth a buffer.
    if text.len() > 2 * HASH_BYTES {
        return None;
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// XORs `with` into `to`.
fn mix(to: &mut [u8; HASH_BYTES], with: &[u8; HASH_BYTES]) {
    for (to, with) in to.iter_mut().zip(with) {
        *to ^= with;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The exchange of RFC 7677, 3.
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn salt() -> Vec<u8> {
        STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap()
    }

    /// StoredKey and ServerKey of the example's password.
    fn pencil() -> ([u8; HASH_BYTES], [u8; HASH_BYTES]) {
        let mut stretch = Stretch::new(b"pencil", &salt(), 4096);
        stretch.step(4096);
        let salted = stretch.result();
        (stored_key(&client_key(&salted)), server_key(&salted))
    }

    fn begun() -> Exchange {
        let first = client_first(CLIENT_FIRST, None).unwrap();
        Exchange::begin(&first, &salt(), 4096, SERVER_NONCE).0
    }

    #[test]
    fn the_server_of_rfc_7677() {
        let first = client_first(CLIENT_FIRST, None).unwrap();
        assert_eq!(first.user, "user");
        let (exchange, message) = Exchange::begin(&first, &salt(), 4096, SERVER_NONCE);
        assert_eq!(message, SERVER_FIRST);
        let (stored, server) = pencil();
        assert_eq!(exchange.finish(CLIENT_FINAL, &stored, &server).unwrap(), SERVER_FINAL);
        assert_eq!(exchange.finish(CLIENT_FINAL, &server, &server), None);
        assert_eq!(format!("{exchange:?}"), "Exchange { .. }");
    }

    #[test]
    fn a_first_message_has_one_spelling() {
        for (text, fault) in [
            ("", ScramFault::Shape),
            ("n,n=user,r=abc", ScramFault::Shape),
            ("p=tls-unique,,n=user,r=abc", ScramFault::ChannelBinding),
            ("p=tls-exporter,,n=user,r=abc", ScramFault::ChannelBinding),
            ("y,n=user,r=abc", ScramFault::Shape),
            ("y,a=boss,n=user,r=abc", ScramFault::OtherIdentity),
            ("n,a=boss,n=user,r=abc", ScramFault::OtherIdentity),
            ("n,,m=x,n=user,r=abc", ScramFault::Extension),
            ("n,,n=user,r=abc,x=y", ScramFault::Extension),
            ("n,,n=user", ScramFault::Shape),
            ("n,,r=abc,n=user", ScramFault::Shape),
            ("n,,n=user,s=abc", ScramFault::Shape),
            ("n,,n=,r=abc", ScramFault::User),
            ("n,,n=a=2c,r=abc", ScramFault::User),
            ("n,,n=a=,r=abc", ScramFault::User),
            ("n,,n=a=4,r=abc", ScramFault::User),
            ("n,,n=a\u{1b},r=abc", ScramFault::User),
            ("n,,n=user,r=", ScramFault::Nonce),
            ("n,,n=user,r=a b", ScramFault::Nonce),
            ("n,,n=user,r=ä", ScramFault::Nonce),
            (&format!("n,,n=user,r={}", "x".repeat(NONCE_BYTES_MOST + 1)), ScramFault::Nonce),
            (&format!("n,,n={},r=x", "x".repeat(97)), ScramFault::User),
        ] {
            assert_eq!(client_first(text, None), Err(fault), "{text:?}");
        }
        assert_eq!(client_first("n,,n=a=2Cb=3D=3Dc,r=x", None).unwrap().user, "a,b==c");
        assert_eq!(client_first("n,,n=käthe,r=x", None).unwrap().user, "käthe");
        assert!(client_first(&format!("n,,n=a,r={}", "x".repeat(NONCE_BYTES_MOST)), None).is_ok());
    }

    /// Both ends of an exchange over these channels; whether the server believes the client.
    fn meet(client: Channel, server: Option<&Binding>) -> Result<bool, ScramFault> {
        let (mut exchange, first) = ClientExchange::begin("user", "nonce", client);
        let (stored, key) = pencil_once();
        let first = client_first(&first, server)?;
        let (begun, challenge) = Exchange::begin(&first, &salt(), 4096, "servers");
        exchange.answer(&challenge, Secret::Password(b"pencil")).unwrap();
        let last = exchange.work(u32::MAX).unwrap();
        let proof = begun.finish(&last, &stored, &key);
        Ok(proof.is_some_and(|proof| exchange.verify(&proof).is_ok()))
    }

    #[test]
    fn both_ends_of_one_tls_connection_and_of_no_other() {
        let (ours, theirs) = ([1; BINDING_BYTES], [2; BINDING_BYTES]);
        let exporter = Channel::Exporter;
        assert_eq!(meet(exporter(ours), Some(&ours)), Ok(true));
        assert_eq!(meet(exporter(ours), Some(&theirs)), Ok(false), "somebody sits between");
        assert_eq!(meet(exporter(ours), None), Err(ScramFault::ChannelBinding));
        assert_eq!(meet(Channel::Unoffered, None), Ok(true), "it ends at a proxy");
        assert_eq!(meet(Channel::Unoffered, Some(&ours)), Err(ScramFault::Downgrade));
        assert_eq!(meet(Channel::Plain, Some(&ours)), Ok(true), "a client that binds nothing");
        assert_eq!(meet(Channel::Plain, None), Ok(true));
        for text in ["p=tls-exporterx,,n=a,r=b", "p=tls-unique,,n=a,r=b", "p=,,n=a,r=b"] {
            assert_eq!(client_first(text, Some(&ours)), Err(ScramFault::ChannelBinding), "{text}");
        }
        let first = client_first("p=tls-exporter,a=boss,n=a,r=b", Some(&ours));
        assert_eq!(first, Err(ScramFault::OtherIdentity));
        assert_eq!(format!("{:?}", exporter(ours)), "p=tls-exporter,,", "it is a secret");
    }

    #[test]
    fn a_last_message_has_one_spelling() {
        let (exchange, (stored, server)) = (begun(), pencil());
        for (from, to) in [
            ("c=biws", "c=eSws"),
            ("c=biws", "c=biwsa"),
            ("c=biws,", ""),
            ("c=biws,", "c=biws,x=y,"),
            ("$k0,", "$k0,x=y,"),
            ("$k0,", "$k1,"),
            ("$k0,", ","),
            ("=rOpr", "=ropr"),
            (",p=", ",q="),
            ("VQ=", "VQ"),
            ("VQ=", "VR="),
            ("VQ=", "VQ= "),
            ("p=dHzb", "p="),
            ("p=dHzb", "p=eHzb"),
        ] {
            let text = CLIENT_FINAL.replacen(from, to, 1);
            assert_ne!(text, CLIENT_FINAL);
            assert_eq!(exchange.finish(&text, &stored, &server), None, "{text}");
        }
    }

    #[test]
    fn the_client_of_rfc_7677() {
        let (mut exchange, first) =
            ClientExchange::begin("user", "rOprNGfwEbeRWgbNEkqO", Channel::Plain);
        assert_eq!(first, CLIENT_FIRST);
        assert_eq!(exchange.verify(SERVER_FINAL), Err(ScramFault::Shape), "not yet");
        assert_eq!(exchange.work(u32::MAX), None, "nobody has asked");
        exchange.answer(SERVER_FIRST, Secret::Password(b"pencil")).unwrap();
        // 4,096 rounds, of which the first is done before.
        for _ in 0..4 {
            assert_eq!(exchange.work(1000), None);
        }
        assert!(exchange.keys().is_none());
        assert_eq!(exchange.work(95).as_deref(), Some(CLIENT_FINAL));
        assert_eq!(exchange.work(95), None, "it is said once");
        assert_eq!(exchange.verify(SERVER_FINAL), Ok(()));
        assert_eq!(exchange.verify(&SERVER_FINAL.replace("6r", "7r")), Err(ScramFault::Impostor));
        assert_eq!(exchange.verify("e=invalid-proof"), Err(ScramFault::Shape));
        let keys = exchange.keys().unwrap().clone();
        assert_eq!(Keys::parse(&keys.to_text()), Some(keys.clone()));
        let (mut again, _) = ClientExchange::begin("user", "rOprNGfwEbeRWgbNEkqO", Channel::Plain);
        again.answer(SERVER_FIRST, Secret::Keys(&keys)).unwrap();
        assert_eq!(again.work(0).as_deref(), Some(CLIENT_FINAL), "no rounds");
        for (from, to) in [("i=4096", "i=4097"), ("s=W2", "s=X2")] {
            let changed = SERVER_FIRST.replace(from, to);
            assert_eq!(again.answer(&changed, Secret::Keys(&keys)), Err(ScramFault::OldKeys));
        }
        assert_eq!(
            format!("{keys:?} {exchange:?}"),
            "Keys { iterations: 4096, .. } \
            ClientExchange { .. }"
        );
    }

    #[test]
    fn a_server_that_is_not_to_be_trusted_gets_no_proof() {
        let long = format!("r=rOprNGfwEbeRWgbNEkqO{}", "x".repeat(NONCE_BYTES_MOST + 1));
        for (from, to, fault) in [
            ("i=4096", "i=4095", ScramFault::TooFewRounds),
            ("i=4096", "i=1", ScramFault::TooFewRounds),
            ("i=4096", "i=0", ScramFault::TooFewRounds),
            ("i=4096", "i=-1", ScramFault::Rounds),
            ("i=4096", "i=", ScramFault::Rounds),
            ("i=4096", "i=100000001", ScramFault::Rounds),
            ("i=4096", "i=99999999999", ScramFault::Rounds),
            (",i=4096", "", ScramFault::Shape),
            ("r=rOp", "r=rop", ScramFault::ForeignNonce),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "", ScramFault::Nonce),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "a b", ScramFault::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqO", &long, ScramFault::Nonce),
            ("s=W22ZaJ0SNY7soEsUEjb6gQ==", "s=AAAA", ScramFault::Salt),
            ("s=W22ZaJ0SNY7soEsUEjb6gQ==", "s=!", ScramFault::Salt),
            ("r=rOp", "m=x,r=rOp", ScramFault::Extension),
            ("r=rOp", "e=other-error,r=rOp", ScramFault::Shape),
        ] {
            let (mut exchange, _) =
                ClientExchange::begin("user", "rOprNGfwEbeRWgbNEkqO", Channel::Plain);
            let text = SERVER_FIRST.replacen(from, to, 1);
            let answer = exchange.answer(&text, Secret::Password(b"pencil"));
            assert_eq!(answer, Err(fault), "{text}");
            assert_eq!(exchange.work(u32::MAX), None);
            assert!(exchange.keys().is_none());
        }
    }

    #[test]
    fn both_ends_understand_any_name() {
        for user in ["fred", "a,b=c", "=2C", "käthe"] {
            let (_, message) = ClientExchange::begin(user, "nonce", Channel::Plain);
            assert_eq!(client_first(&message, None).unwrap().user, user);
        }
    }

    /// What a sign-in costs: run it with `--release --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_an_exchange() {
        #[allow(clippy::disallowed_methods)]
        let now = std::time::Instant::now;
        let ((stored, server), rounds) = (pencil(), 200_000_u32);
        let start = now();
        for _ in 0..rounds {
            let first = client_first(CLIENT_FIRST, None).unwrap();
            let (exchange, _) = Exchange::begin(&first, &salt(), 4096, SERVER_NONCE);
            assert!(exchange.finish(CLIENT_FINAL, &stored, &server).is_some());
        }
        println!("{:?} an exchange", now().duration_since(start) / rounds);
    }

    proptest! {
        #[test]
        fn any_text_from_a_server_is_a_fault(
            text in "\\PC*|r=rOprNGfwEbeRWgbNEkqO[!-~]*,s=[A-Z]*=*,i=[0-9]{0,4}",
        ) {
            let (mut exchange, _) =
                ClientExchange::begin("user", "rOprNGfwEbeRWgbNEkqO", Channel::Plain);
            _ = exchange.answer(&text, Secret::Password(b"pencil"));
            prop_assert!(exchange.verify(&text).is_err());
            prop_assert!(Keys::parse(&text).is_none());
        }

        #[test]
        fn any_text_is_a_message_or_a_fault(text in "\\PC*|n,,n=[a=2C3D,]*,r=[!-~]*") {
            _ = client_first(&text, None);
            let (stored, server) = pencil_once();
            prop_assert_eq!(begun().finish(&text, &stored, &server), None);
        }

        #[test]
        fn a_proof_with_one_bit_turned_proves_nothing(bit in 0_usize..8 * CLIENT_FINAL.len()) {
            let mut bytes = CLIENT_FINAL.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (stored, server) = pencil_once();
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert_eq!(begun().finish(&text, &stored, &server), None);
            }
        }
    }

    /// Stretched only once, as it is slow.
    fn pencil_once() -> ([u8; HASH_BYTES], [u8; HASH_BYTES]) {
        static KEYS: std::sync::OnceLock<([u8; HASH_BYTES], [u8; HASH_BYTES])> =
            std::sync::OnceLock::new();
        *KEYS.get_or_init(pencil)
    }
}
