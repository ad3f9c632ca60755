//! What somebody may have meant: the nearest command, the nearest user.

use super::accounts::Accounts;
use crate::limits::{HINT_NAMES, NAME_BYTES};
use crate::proto::command::Verb;
use crate::proto::name::UserName;

/// Edits between two words, letters of any case alike: insertions, deletions, replacements and
/// swaps of neighbours. None if there are more than `most`, or a word is too long to be a name.
fn distance(a: &[u8], b: &[u8], most: usize) -> Option<usize> {
    if a.len() > NAME_BYTES || b.len() > NAME_BYTES || a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut rows = [[0; NAME_BYTES + 1]; 3];
    for (n, cell) in rows[0].iter_mut().enumerate() {
        *cell = n;
    }
    for i in 1..=a.len() {
        let [two_back, back, here] = [(i + 1) % 3, (i - 1) % 3, i % 3];
        rows[here][0] = i;
        // A cell further than that from the diagonal is more than `most` edits away.
        let (first, last) = (i.saturating_sub(most).max(1), (i + most).min(b.len()));
        let mut least = if first == 1 { i } else { most + 1 };
        if first > 1 {
            rows[here][first - 1] = most + 1;
        }
        if last < b.len() {
            rows[here][last + 1] = most + 1;
        }
        for j in first..=last {
            let same = a[i - 1].eq_ignore_ascii_case(&b[j - 1]);
            let mut best = rows[back][j - 1] + usize::from(!same);
            best = best.min(rows[back][j] + 1).min(rows[here][j - 1] + 1);
            let swapped = i > 1
                && j > 1
                && a[i - 1].eq_ignore_ascii_case(&b[j - 2])
                && a[i - 2].eq_ignore_ascii_case(&b[j - 1]);
            if swapped {
                best = best.min(rows[two_back][j - 2] + 1);
            }
            rows[here][j] = best;
            least = least.min(best);
        }
        // No later row has fewer, so most words are done after a few letters.
        if least > most {
            return None;
        }
    }
    Some(rows[a.len() % 3][b.len()]).filter(|&edits| edits <= most)
}

/// How many edits a word of that length may be away and still be meant.
fn tolerance(word: &str) -> usize {
    if word.len() <= 3 { 1 } else { 2 }
}

/// The command that `word` may have meant.
#[must_use]
pub fn command(word: &str) -> Option<Verb> {
    let word = word.strip_prefix('/').unwrap_or(word);
    let most = tolerance(word);
    Verb::ALL
        .into_iter()
        .flat_map(|verb| verb.words().iter().map(move |own| (verb, own)))
        .filter_map(|(verb, own)| Some((distance(word.as_bytes(), own.as_bytes(), most)?, verb)))
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, verb)| verb)
}

/// The user that `word` may have meant. Looks at the first users of the password file only, so
/// that a wrong name costs no more in a large one.
#[must_use]
pub fn user(word: &str, accounts: &Accounts) -> Option<UserName> {
    let most = tolerance(word);
    let names = accounts.order().iter().take(HINT_NAMES).map(|&user| accounts.name(user));
    names
        .filter_map(|name| Some((distance(word.as_bytes(), name.as_str().as_bytes(), most)?, name)))
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_command_is_meant() {
        assert_eq!(command("sned"), Some(Verb::Send));
        assert_eq!(command("/singin"), Some(Verb::SignIn));
        assert_eq!(command("hepl"), Some(Verb::Help));
        assert_eq!(command("brodcast"), Some(Verb::Broadcast));
        assert_eq!(command("xyzzy"), None);
        assert_eq!(command(&"x".repeat(4000)), None);
    }

    #[test]
    fn giving_up_early_changes_no_answer() {
        let words = ["", "a", "ab", "ba", "fred", "ferd", "kitten", "sitting", "abcdef", "badcfe"];
        for (a, b) in words.into_iter().flat_map(|a| words.map(|b| (a.as_bytes(), b.as_bytes()))) {
            let edits = distance(a, b, NAME_BYTES).unwrap();
            for most in 0..8 {
                assert_eq!(distance(a, b, most), Some(edits).filter(|&n| n <= most));
            }
        }
    }

    #[test]
    fn edits_are_counted_as_a_typist_makes_them() {
        let edits = |a: &str, b: &str| distance(a.as_bytes(), b.as_bytes(), 9);
        assert_eq!(edits("fre", "fred"), Some(1));
        assert_eq!(edits("FRED", "fred"), Some(0));
        assert_eq!(edits("ferd", "fred"), Some(1));
        assert_eq!(edits("", "ab"), Some(2));
        assert_eq!(edits("kitten", "sitting"), Some(3));
    }
}
