//! Who exists: the users of the password file, found by name, and what a reload of that file
//! changes. Where the file lies and what it looks like is unknown here.

use crate::core::password::{Guise, Verifier};
use crate::proto::name::{NameKey, UserName};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A user, as long as the process lives: no other user ever gets the same id, not even one who
/// comes back under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u32);

#[derive(Debug)]
struct Account {
    name: UserName,
    is_current: bool,
}

/// Everyone who is in the password file, and the names of those who were.
#[derive(Debug)]
pub struct Accounts {
    /// By [`UserId`]; entries are never taken out.
    accounts: Vec<Account>,
    /// The same. Apart, for one is seldom wanted, and names of many in a row.
    verifiers: Vec<Verifier>,
    ids: HashMap<NameKey, UserId, BuildHasherDefault<NameHasher>>,
    order: Vec<UserId>,
    /// What challenges tell of the current users, the fewest rounds first.
    guises: Vec<Guise>,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New users, in the order of the file.
    pub added: Vec<UserId>,
    /// Users who are no more, in the order of the file before.
    pub removed: Vec<UserId>,
    /// Users with another password, salt or number of rounds, in the order of the file.
    pub password_changed: Vec<UserId>,
}

impl Accounts {
    /// The users of a password file, in its order.
    ///
    /// # Panics
    /// If a name comes twice: the reader of the file refuses that.
    #[must_use]
    pub fn new(entries: Vec<(UserName, Verifier)>) -> Self {
        let mut accounts = Self {
            accounts: Vec::with_capacity(entries.len()),
            verifiers: Vec::with_capacity(entries.len()),
            ids: HashMap::default(),
            order: Vec::new(),
            guises: Vec::new(),
        };
        accounts.reload(entries);
        accounts
    }

    /// The user called `word`, upper or lower case.
    #[must_use]
    pub fn find(&self, word: &str) -> Option<UserId> {
        // No user has a reserved name, so it need not be looked for among those.
        self.ids.get(&NameKey::once(word).ok()?).copied()
    }

    /// Whether `word` is what this user is called now, upper or lower case.
    #[must_use]
    pub fn is_called(&self, user: UserId, word: &str) -> bool {
        let account = self.account(user);
        account.is_current && account.name.as_str().eq_ignore_ascii_case(word)
    }

    /// The user's name as the password file spells it, or spelled it last.
    #[must_use]
    pub fn name(&self, user: UserId) -> &UserName {
        &self.account(user).name
    }

    /// What the user's password is checked with.
    #[must_use]
    pub fn verifier(&self, user: UserId) -> &Verifier {
        &self.verifiers[user.0 as usize]
    }

    /// Whether the user is in the password file as it was read last.
    #[must_use]
    pub fn is_current(&self, user: UserId) -> bool {
        self.account(user).is_current
    }

    /// The current users, in the order of the password file.
    #[must_use]
    pub fn order(&self) -> &[UserId] {
        &self.order
    }

    /// How many current users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no user at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The rounds that somebody who does not exist must cost, and how long his salt is: as with the
    /// user whom `lot` draws, so that neither tells that a name is somebody's. The default if there
    /// is nobody.
    ///
    /// A user more or less changes what is drawn for few lots.
    #[must_use]
    pub fn guise_of_stranger(&self, lot: u64) -> Guise {
        let drawn = (u128::from(lot) * self.guises.len() as u128) >> 64;
        let guise = usize::try_from(drawn).ok().and_then(|at| self.guises.get(at));
        guise.copied().unwrap_or(Guise::NEW)
    }

    /// Takes over the password file as it is now. A name that stays keeps its id, whatever its
    /// case; a name that comes back gets a new one.
    ///
    /// # Panics
    /// If a name comes twice: the reader of the file refuses that.
    pub fn reload(&mut self, entries: Vec<(UserName, Verifier)>) -> Changes {
        let mut changes = Changes::default();
        let before = std::mem::take(&mut self.order);
        for &user in &before {
            self.account_mut(user).is_current = false;
        }
        for (name, verifier) in entries {
            let key = name.key();
            let user = if let Some(&user) = self.ids.get(&key) {
                assert!(!self.is_current(user), "{name} comes twice");
                *self.account_mut(user) = Account { name, is_current: true };
                if *self.verifier(user) != verifier {
                    changes.password_changed.push(user);
                    self.verifiers[user.0 as usize] = verifier;
                }
                user
            } else {
                let user = self.add(name, verifier);
                self.ids.insert(key, user);
                changes.added.push(user);
                user
            };
            self.order.push(user);
        }
        for user in before {
            if !self.is_current(user) {
                let key = self.name(user).key();
                self.ids.remove(&key);
                changes.removed.push(user);
            }
        }
        self.sort_guises();
        changes
    }

    /// Gives a user another verifier, as the password file has it now.
    pub fn set_verifier(&mut self, user: UserId, verifier: Verifier) {
        self.verifiers[user.0 as usize] = verifier;
        self.sort_guises();
    }

    fn sort_guises(&mut self) {
        self.guises = self.order.iter().map(|&user| self.verifier(user).guise()).collect();
        self.guises.sort_unstable();
    }

    fn add(&mut self, name: UserName, verifier: Verifier) -> UserId {
        let next = u32::try_from(self.accounts.len());
        let user = UserId(next.expect("the file's size bounds a reload to a few million users"));
        self.accounts.push(Account { name, is_current: true });
        self.verifiers.push(verifier);
        user
    }

    fn account(&self, user: UserId) -> &Account {
        &self.accounts[user.0 as usize]
    }

    fn account_mut(&mut self, user: UserId) -> &mut Account {
        &mut self.accounts[user.0 as usize]
    }
}

/// A hash for the table of names: a multiplication for each eight bytes. The operator chooses the
/// names in the table, so nobody can crowd it on purpose and the time of SipHash is saved: a name
/// is looked up for each message.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        // A key is a whole number of words; a rest would only be hashed less well.
        let (words, _) = bytes.as_chunks();
        for word in words {
            // 2^64 divided by the golden ratio; both halves of the product matter to the table.
            let mixed = self.0.rotate_left(23) ^ u64::from_le_bytes(*word);
            let product = u128::from(mixed) * 0x9e37_79b9_7f4a_7c15;
            self.0 = (product as u64) ^ ((product >> 64) as u64);
        }
    }

    // The lengths: zeros fill the key behind the name, so its bytes tell them already.
    fn write_u8(&mut self, _: u8) {}
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, password: &str) -> (UserName, Verifier) {
        rounds_entry(name, password, 1)
    }

    fn rounds_entry(name: &str, password: &str, rounds: u32) -> (UserName, Verifier) {
        let verifier = Verifier::derive(password.as_bytes(), b"saltsalt", rounds);
        (UserName::new(name).unwrap(), verifier)
    }

    fn three() -> Accounts {
        Accounts::new(vec![entry("fred", "1"), entry("Tim", "2"), entry("libero", "3")])
    }

    const FRED: UserId = UserId(0);
    const TIM: UserId = UserId(1);
    const LIBERO: UserId = UserId(2);

    #[test]
    fn users_are_found_in_any_case_and_listed_as_in_the_file() {
        let accounts = three();
        assert_eq!(accounts.find("tim"), Some(TIM));
        assert_eq!(accounts.find("TIM"), Some(TIM));
        assert_eq!(accounts.name(TIM).as_str(), "Tim");
        for word in ["timo", "ti", "", "ti m", "käthe", "user", &"x".repeat(100)] {
            assert_eq!(accounts.find(word), None, "{word}");
        }
        assert_eq!(accounts.order(), [FRED, TIM, LIBERO]);
        assert_eq!((accounts.len(), accounts.is_empty()), (3, false));
    }

    #[test]
    fn the_same_file_again_changes_nothing() {
        let mut accounts = three();
        let same = vec![entry("fred", "1"), entry("Tim", "2"), entry("libero", "3")];
        assert_eq!(accounts.reload(same), Changes::default());
        assert_eq!(accounts.order(), [FRED, TIM, LIBERO]);
    }

    #[test]
    fn a_reload_tells_what_it_changed() {
        let mut accounts = three();
        let changes =
            accounts.reload(vec![entry("seas", "9"), entry("libero", "x"), entry("fred", "1")]);
        let seas = UserId(3);
        assert_eq!(
            changes,
            Changes { added: vec![seas], removed: vec![TIM], password_changed: vec![LIBERO] }
        );
        assert_eq!(accounts.order(), [seas, LIBERO, FRED]);
        assert_eq!(accounts.find("tim"), None);
        assert_eq!(accounts.name(TIM).as_str(), "Tim", "for the log");
        assert_eq!(
            [TIM, LIBERO, FRED, seas].map(|user| accounts.is_current(user)),
            [false, true, true, true]
        );
        assert_eq!(*accounts.verifier(LIBERO), entry("libero", "x").1);
    }

    #[test]
    fn who_comes_back_is_somebody_else() {
        let mut accounts = three();
        accounts.reload(vec![entry("fred", "1")]);
        let changes = accounts.reload(vec![entry("fred", "1"), entry("tim", "2")]);
        let other_tim = UserId(3);
        assert_eq!(changes, Changes { added: vec![other_tim], ..Changes::default() });
        assert_eq!(accounts.find("Tim"), Some(other_tim));
        assert!(!accounts.is_current(TIM));
        assert!(accounts.is_called(other_tim, "TIM") && !accounts.is_called(TIM, "tim"));
        assert_eq!(accounts.reload(vec![entry("fred", "1")]).removed, [other_tim]);
        assert!(!accounts.is_called(other_tim, "tim") && !accounts.is_called(FRED, "fre"));
    }

    #[test]
    fn another_spelling_is_the_same_user() {
        let mut accounts = three();
        let changes =
            accounts.reload(vec![entry("FRED", "1"), entry("Tim", "2"), entry("libero", "3")]);
        assert_eq!(changes, Changes::default());
        assert_eq!(accounts.find("fred"), Some(FRED));
        assert_eq!(accounts.name(FRED).as_str(), "FRED");
    }

    #[test]
    fn a_stranger_costs_what_some_user_costs() {
        assert_eq!(Accounts::new(vec![]).guise_of_stranger(7), Guise::NEW);
        let few = || vec![rounds_entry("a", "1", 3), rounds_entry("b", "1", 2)];
        let mut accounts = Accounts::new(few());
        let drawn = |accounts: &Accounts| {
            [0, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX]
                .map(|lot| accounts.guise_of_stranger(lot).rounds)
        };
        assert_eq!(drawn(&accounts), [2, 2, 3, 3], "as often as users do");
        let mut more = few();
        more.push(rounds_entry("c", "1", 2));
        accounts.reload(more);
        assert_eq!(drawn(&accounts), [2, 2, 2, 3]);
    }

    #[test]
    fn a_strangers_salt_is_as_long_as_some_users() {
        let salted =
            |name, salt: &[u8]| (UserName::new(name).unwrap(), Verifier::derive(b"1", salt, 3));
        let accounts = Accounts::new(vec![salted("a", &[1; 64]), salted("b", &[2; 8])]);
        let drawn = [0, u64::MAX].map(|lot| accounts.guise_of_stranger(lot).salt_bytes);
        assert_eq!(drawn, [8, 64]);
    }

    #[test]
    fn a_new_verifier_is_what_a_reload_finds() {
        let mut accounts = three();
        let (_, verifier) = rounds_entry("fred", "new", 7);
        accounts.set_verifier(FRED, verifier.clone());
        assert_eq!(*accounts.verifier(FRED), verifier);
        assert_eq!(accounts.guise_of_stranger(u64::MAX).rounds, 7, "strangers may cost as much");
        let file = vec![rounds_entry("fred", "new", 7), entry("Tim", "2"), entry("libero", "3")];
        assert_eq!(accounts.reload(file), Changes::default());
    }

    #[test]
    #[should_panic(expected = "Fred comes twice")]
    fn a_name_comes_once() {
        let _ = Accounts::new(vec![entry("fred", "1"), entry("Fred", "1")]);
    }
}
