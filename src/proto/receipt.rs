//! Receipts in the coded dialect, as a client reads them.

use super::coded_client::LineFault;
use super::id::LetterId;

/// What a server tells of the delivery of a letter that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// A reader has it for good.
    Delivered {
        /// The letter.
        id: LetterId,
        /// The reader.
        user: String,
    },
    /// No more will be told of it on this connection.
    Unwatched(LetterId),
}

impl Receipt {
    /// `delivered id user`, `unwatched id why`: the fields of an event 115 or 116. `None` if it is
    /// neither of these events.
    pub fn parse(code: u16, fields: &str) -> Result<Option<Self>, LineFault> {
        let mut words = fields.split(' ').skip(1);
        let mut word = || words.next().filter(|word| !word.is_empty()).ok_or(LineFault::Fields);
        Ok(match code {
            115 => Some(Self::Delivered { id: id(word()?)?, user: word()?.into() }),
            116 => Some(Self::Unwatched(id(word()?)?)),
            _ => None,
        })
    }
}

fn id(word: &str) -> Result<LetterId, LineFault> {
    word.parse().map_err(|_| LineFault::Fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LetterId = LetterId { epoch: 5, seq: 7 };

    #[test]
    fn receipts_are_understood() {
        let receipt = |code, fields| Receipt::parse(code, fields);
        let delivered = Receipt::Delivered { id: ID, user: "fred".into() };
        assert_eq!(receipt(115, "delivered 5.7 fred"), Ok(Some(delivered)));
        assert_eq!(receipt(116, "unwatched 5.7 busy"), Ok(Some(Receipt::Unwatched(ID))));
        assert_eq!(receipt(114, "no-longer-away"), Ok(None));
        for (code, fields) in [(115, "delivered 5.7"), (115, "delivered x y"), (116, ""), (115, "")]
        {
            assert_eq!(receipt(code, fields), Err(LineFault::Fields), "{code} {fields}");
        }
    }
}
