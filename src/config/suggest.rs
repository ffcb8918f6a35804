//! "did you mean": the known word that is nearest to a mistaken one.

/// The candidate that `word` was most likely meant to be, if one is near enough to say so.
///
/// Near enough is a third of its letters wrong, swapped, lost or added, at least one; the case of letters does not count.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no mistyped keys, and the distance costs the product of the lengths.
    let length = word.chars().count();
    if length > LONGEST_WORD {
        return None;
    }
    let word = word.to_lowercase();
    let allowed = (length / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST_WORD)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        // A word that shares no letter with a two-letter key is "one wrong" away from nothing at all.
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

const LONGEST_WORD: usize = 64;

/// `a`, `b` and `c`: at most 24 words, so that one message stays one message.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (position, word) in words.into_iter().enumerate() {
        if position == 24 {
            text.push_str(", …");
            break;
        }
        if position > 0 {
            text.push_str(", ");
        }
        text.push('`');
        text.push_str(word);
        text.push('`');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["upstream", "rewrite", "name", "rateLimit", "ttl"];
        assert_eq!(did_you_mean("upstraem", known), Some("upstream"));
        assert_eq!(did_you_mean("ratelimit", known), Some("rateLimit"));
        assert_eq!(did_you_mean("nam", known), Some("name"));
        assert_eq!(did_you_mean("tll", known), Some("ttl"));
        assert_eq!(did_you_mean("completely", known), None);
        assert_eq!(did_you_mean("x", ["q"]), None, "nothing is left of the word");
        assert_eq!(did_you_mean(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn a_list_is_cut_before_it_fills_the_screen() {
        assert_eq!(listed(["a", "b"]), "`a`, `b`");
        assert!(listed(std::iter::repeat_n("a", 100)).ends_with("`a`, …"));
    }
}
