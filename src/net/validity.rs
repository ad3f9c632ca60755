//! From when to when a certificate is valid: read from its bytes (DER, RFC 5280), of which it
//! understands no more than it takes to get there. Whether anybody trusts it is not known here.

use crate::time::Moment;

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: Moment,
    /// The last one.
    pub to: Moment,
}

/// What a clock says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is valid.
    Valid,
    /// It will be from then on.
    NotYet(Moment),
    /// It was, up to then.
    Expired(Moment),
}

impl Validity {
    /// That of a certificate; `None` if these bytes are none.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (body, _) = element(certificate, SEQUENCE)?;
        // The version, which those of the first one do not tell.
        let rest = element(body, VERSION).map_or(body, |(_, rest)| rest);
        let (_serial, rest) = element(rest, INTEGER)?;
        let (_algorithm, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, _) = element(rest, SEQUENCE)?;
        let (from, rest) = moment(validity)?;
        let (to, _) = moment(rest)?;
        Some(Self { from, to })
    }

    /// What is to be said of it at that moment.
    #[must_use]
    pub fn standing(&self, now: Moment) -> Standing {
        if now < self.from {
            return Standing::NotYet(self.from);
        }
        if now > self.to {
            return Standing::Expired(self.to);
        }
        Standing::Valid
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// What the element of this kind holds with which `input` begins, and what follows it.
fn element(input: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&[first, length], mut rest) = input.split_first_chunk()?;
    if first != kind {
        return None;
    }
    let mut length = usize::from(length);
    if length >= 0x80 {
        // So many bytes tell it; those of a certificate are at most three.
        let (bytes, after) = rest.split_at_checked(length - 0x80)?;
        if !(1..=3).contains(&bytes.len()) {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    rest.split_at_checked(length)
}

/// The moment with which `input` begins, and what follows it.
fn moment(input: &[u8]) -> Option<(Moment, &[u8])> {
    let (short, (text, rest)) = match element(input, UTC_TIME) {
        Some(found) => (true, found),
        None => (false, element(input, GENERALIZED_TIME)?),
    };
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != if short { 12 } else { 14 } || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    let (year, others) = digits.split_at(digits.len() - 10);
    let year = match number(year) {
        // Two digits are those of 1950 to 2049.
        year if short && year < 50 => 2000 + year,
        year if short => 1900 + year,
        year => year,
    };
    let part = |at: usize| number(&others[2 * at..2 * at + 2]);
    let moment = Moment { date: (year, part(0), part(1)), clock: (part(2), part(3), part(4)) };
    Some((moment, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = match length {
            0..0x80 => vec![kind, length as u8],
            _ => vec![kind, 0x82, (length >> 8) as u8, length as u8],
        };
        bytes.extend_from_slice(content);
        bytes
    }

    /// As much of a certificate as is looked at.
    fn certificate(version: &[u8], from: (u8, &str), to: (u8, &str)) -> Vec<u8> {
        let time = |(kind, text): (u8, &str)| wrapped(kind, text.as_bytes());
        let name = wrapped(SEQUENCE, &[7; 300]);
        let body = [
            version,
            &wrapped(INTEGER, &[1, 2, 3]),
            &wrapped(SEQUENCE, b"x"),
            &name,
            &wrapped(SEQUENCE, &[time(from), time(to)].concat()),
            &name,
        ];
        wrapped(SEQUENCE, &wrapped(SEQUENCE, &body.concat()))
    }

    #[test]
    fn moments_are_read_as_certificates_have_them() {
        let version = wrapped(VERSION, &wrapped(INTEGER, &[2]));
        for version in [&version[..], b""] {
            let bytes =
                certificate(version, (UTC_TIME, "500102030405Z"), (UTC_TIME, "491231235959Z"));
            let found = Validity::of(&bytes).unwrap();
            assert_eq!(found.from.to_string(), "1950-01-02 03:04:05 UTC");
            assert_eq!(found.to.to_string(), "2049-12-31 23:59:59 UTC");
        }
        let bytes =
            certificate(b"", (UTC_TIME, "260228000000Z"), (GENERALIZED_TIME, "40960101000000Z"));
        assert_eq!(Validity::of(&bytes).unwrap().to.to_string(), "4096-01-01 00:00:00 UTC");
        // Cut anywhere it is none.
        for length in 0..bytes.len() - 1 {
            assert_eq!(Validity::of(&bytes[..length]), None, "{length}");
        }
        for wrong in ["", "Z", "2602280000Z", "260228000000", "26022800000xZ", "260228000000+01"] {
            let bytes = certificate(b"", (UTC_TIME, wrong), (UTC_TIME, "491231235959Z"));
            assert_eq!(Validity::of(&bytes), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_second_to_its_last() {
        let at = |text: &str| moment(&wrapped(UTC_TIME, text.as_bytes())).unwrap().0;
        let (from, to) = (at("700101000001Z"), at("700102000000Z"));
        let validity = Validity { from, to };
        for (unix_s, standing) in [
            (0, Standing::NotYet(from)),
            (1, Standing::Valid),
            (86_400, Standing::Valid),
            (86_401, Standing::Expired(to)),
            (1_800_000_000, Standing::Expired(to)),
        ] {
            assert_eq!(validity.standing(Moment::of_unix(unix_s)), standing, "{unix_s}");
        }
    }
}
