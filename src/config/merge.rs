//! Merge keys: `<<: *base` copies the entries of `base` that the mapping does not have itself.
//!
//! Done here rather than by the decoder's own function, which moves keys out of file order and forgets a `<<` inside a
//! merged mapping. The tree has already refused a `<<` that is no mapping.

use serde_yaml::{Mapping, Value};

use super::tree::MERGE_KEY;

/// Replaces every `<<` below `value` by what it stands for: own keys win, then the first of a list.
pub(super) fn apply(value: &mut Value) {
    match value {
        Value::Sequence(items) => items.iter_mut().for_each(apply),
        Value::Mapping(mapping) => {
            // Inner ones first, so that what is copied is already complete.
            mapping.values_mut().for_each(apply);
            match mapping.shift_remove(MERGE_KEY) {
                Some(Value::Mapping(base)) => copy(mapping, base),
                Some(Value::Sequence(bases)) => {
                    for base in bases {
                        if let Value::Mapping(base) = base {
                            copy(mapping, base);
                        }
                    }
                }
                _ => {}
            }
        }
        Value::Tagged(tagged) => apply(&mut tagged.value),
        _ => {}
    }
}

fn copy(into: &mut Mapping, base: Mapping) {
    for (key, value) in base {
        into.entry(key).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str) -> String {
        let mut value: Value = serde_yaml::from_str(text).expect("yaml");
        apply(&mut value);
        serde_yaml::to_string(&value["out"]).expect("yaml")
    }

    #[test]
    fn own_keys_win_and_the_order_of_the_file_stays() {
        let text = "b: &b { z: 0, y: 0 }\nout:\n  a: 1\n  <<: *b\n  z: 2\n  c: 3\n";
        assert_eq!(merged(text), "a: 1\nz: 2\nc: 3\ny: 0\n");
    }

    #[test]
    fn merges_reach_through_merges_and_lists() {
        let text = "a: &a { k: 1 }\nb: &b { <<: *a, l: 2 }\nc: &c { k: 9, m: 3 }\nout: { <<: [*b, *c] }\n";
        assert_eq!(merged(text), "l: 2\nk: 1\nm: 3\n");
    }
}
