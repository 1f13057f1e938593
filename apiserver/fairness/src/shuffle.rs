//! Shuffle sharding: a flow's hash deals it a hand of queues, so that two flows rarely share all of theirs.

/// The largest hand that can be dealt.
pub const MAX_HAND: usize = 15;
/// How many bits of a hash are worth using; more would make the last card uneven.
const MAX_BITS: f64 = 60.0;
/// The largest deck.
const MAX_DECK: usize = 1 << 26;

/// Whether a hash has enough entropy to deal such a hand fairly from such a deck.
pub fn is_dealable(deck: usize, hand: usize) -> bool {
    let bits = (deck as f64).log2() * hand as f64;
    (1..=MAX_HAND).contains(&hand) && hand <= deck && deck <= MAX_DECK && bits.ceil() <= MAX_BITS
}

/// Deals `hand` distinct cards of `0..deck`. Empty unless [`is_dealable`].
pub fn deal(hash: u64, deck: usize, hand: usize) -> impl Iterator<Item = usize> {
    let mut cards = [0_usize; MAX_HAND];
    let mut rest = hash;
    let hand = if is_dealable(deck, hand) { hand } else { 0 };
    for (at, card) in cards.iter_mut().enumerate().take(hand) {
        let left = (deck - at) as u64;
        *card = (rest % left) as usize;
        rest /= left;
    }
    // Each remainder counts among the cards that those before it left over.
    let drawn = cards;
    (0..hand).map(move |at| {
        let mut card = drawn.get(at).copied().unwrap_or_default();
        for before in drawn.iter().take(at).rev() {
            if card >= *before {
                card += 1;
            }
        }
        card
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hands_are_what_upstream_deals() {
        // hash, deck, hand, cards
        let table: &[(u64, usize, usize, &[usize])] = &[
            (0, 128, 1, &[0]),
            (0, 128, 3, &[0, 1, 2]),
            (1, 128, 2, &[1, 0]),
            (128, 128, 2, &[0, 2]),
            (u64::MAX, 3, 3, &[0, 2, 1]),
        ];
        for (hash, deck, hand, want) in table {
            let got: Vec<usize> = deal(*hash, *deck, *hand).collect();
            assert_eq!(&got, want, "{hash} {deck} {hand}");
        }
        for (deck, hand, good) in [
            (128, 6, true),
            (128, 9, false),
            (4, 5, false),
            (0, 0, false),
            (64, 10, true),
        ] {
            assert_eq!(is_dealable(deck, hand), good, "{deck} {hand}");
        }
    }

    proptest! {
        #[test]
        fn cards_of_a_hand_are_distinct_and_in_the_deck(hash: u64, deck in 1_usize..512, hand in 1_usize..7) {
            let cards: Vec<usize> = deal(hash, deck, hand).collect();
            prop_assert_eq!(cards.len(), if is_dealable(deck, hand) { hand } else { 0 });
            let mut sorted = cards.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), cards.len());
            prop_assert!(cards.iter().all(|card| *card < deck));
        }
    }
}
