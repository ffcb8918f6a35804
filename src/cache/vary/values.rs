//! The one form of a request field's value, so that requests that mean the same select the same variant (RFC 9111 §4.1).
//!
//! Only what that section allows: lines are combined, space goes where a list has it, and two fields whose syntax is known
//! lose what carries no meaning there. What such a field should not look like is compared as it is written.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE};

/// Appends the form of field `name` in `request`: a letter for its kind, text, and a zero byte, which no field can hold.
/// A field that is absent is only like one that is absent too.
pub(super) fn push_form(bytes: &mut Vec<u8>, name: &str, request: &HeaderMap) {
    if !request.contains_key(name) {
        bytes.push(b'-');
    } else if let Some(members) = weighted(name, request) {
        bytes.push(b'q');
        for member in &members {
            bytes.extend(member.lower());
            // Thousandths; a name is a token and holds neither character.
            bytes.extend_from_slice(format!("={},", member.weight).as_bytes());
        }
    } else {
        bytes.push(b'=');
        push_combined(bytes, name, request);
    }
    bytes.push(0);
}

/// All lines as one (RFC 9110 §5.2), without space at the ends and around commas, unless a string is quoted. The crumbs of a
/// `Cookie` are combined as such (RFC 9113 §8.2.3) and left as they are.
fn push_combined(bytes: &mut Vec<u8>, name: &str, request: &HeaderMap) {
    let lines = request.get_all(name).iter().map(|line| line.as_bytes().trim_ascii());
    if name.eq_ignore_ascii_case(COOKIE.as_str()) {
        for (index, line) in lines.filter(|line| !line.is_empty()).enumerate() {
            bytes.extend_from_slice(if index == 0 { b"" } else { b"; " });
            bytes.extend_from_slice(line);
        }
        return;
    }
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, line) in lines.enumerate() {
        let mut may_have_space = false;
        let mut space = 0;
        if index > 0 {
            bytes.push(b',');
        }
        for (at, byte) in line.iter().enumerate() {
            match byte {
                b' ' | b'\t' if !is_quoted => {
                    space += 1;
                    continue;
                }
                b',' if !is_quoted => may_have_space = false,
                _ if may_have_space => bytes.extend_from_slice(line.get(at - space..at).unwrap_or_default()),
                _ => {}
            }
            if is_quoted || *byte != b',' {
                may_have_space = true;
            }
            space = 0;
            bytes.push(*byte);
            (is_quoted, is_escaped) = match byte {
                b'"' if !is_escaped => (!is_quoted, false),
                b'\\' if is_quoted && !is_escaped => (true, true),
                _ => (is_quoted, false),
            };
        }
    }
}

/// A member of a list with weights (RFC 9110 §12.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member<'a> {
    /// A token; its case does not matter.
    name: &'a [u8],
    /// In thousandths.
    weight: u16,
}

impl<'a> Member<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.splitn(2, |byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty() && name.iter().all(is_token_byte))?;
        let weight = match parts.next() {
            None => 1000,
            Some([b'q' | b'Q', b'=', weight @ ..]) => thousandths(weight)?,
            Some(_) => return None,
        };
        Some(Self { name, weight })
    }

    fn lower(&self) -> impl Iterator<Item = u8> {
        self.name.iter().map(u8::to_ascii_lowercase)
    }

    fn is_same_name(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
    }
}

/// The members of a field that is known to be a list with weights, in the one order in which they mean what they meant.
/// None for another field, and for one that is not what its syntax wants.
fn weighted<'a>(name: &str, request: &'a HeaderMap) -> Option<Vec<Member<'a>>> {
    let is_encoding = name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str());
    if !is_encoding && !name.eq_ignore_ascii_case(ACCEPT_LANGUAGE.as_str()) {
        return None;
    }
    let lines = request.get_all(name).iter();
    let texts = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let members: Option<Vec<Member<'a>>> = texts.filter(|text| !text.is_empty()).map(Member::parse).collect();
    let mut members = members?;
    if is_encoding {
        settle_codings(&mut members);
    } else {
        // §12.5.4: among languages of the same weight many recipients prefer the one that comes first.
        members.sort_by_key(|member| std::cmp::Reverse(member.weight));
    }
    Some(members)
}

/// RFC 9110 §12.5.3: codings have no order. `x-gzip` is `gzip` (§8.4.1). What is refused by name says nothing that its absence
/// does not say, unless it is `identity` or there is a `*`.
fn settle_codings(members: &mut Vec<Member<'_>>) {
    for member in members.iter_mut() {
        if let Some(name) =
            [&b"gzip"[..], b"compress"].into_iter().find(|name| is_old_name(member.name, name))
        {
            member.name = name;
        }
    }
    members.sort_by(|a, b| a.lower().cmp(b.lower()).then(a.weight.cmp(&b.weight)));
    members.dedup_by(|a, b| a.is_same_name(b) && a.weight == b.weight);
    if members.iter().any(|member| member.name == b"*") {
        return;
    }
    let says_something = |same: &&[Member<'_>]| match same {
        [only] => only.weight > 0 || only.name.eq_ignore_ascii_case(b"identity"),
        _ => true,
    };
    *members = members.chunk_by(Member::is_same_name).filter(says_something).flatten().copied().collect();
}

fn is_old_name(written: &[u8], name: &[u8]) -> bool {
    matches!(written, [b'x' | b'X', b'-', rest @ ..] if rest.eq_ignore_ascii_case(name))
}

/// `0.8` as 800 (RFC 9110 §12.4.2): at most three digits, at most 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digits = fraction.iter().chain(b"000").take(3);
    let start = matches!(whole, b'0' | b'1').then(|| u16::from(whole - b'0'))?;
    let weight = digits.into_iter().try_fold(start, |weight, digit| {
        digit.is_ascii_digit().then(|| weight * 10 + u16::from(digit - b'0'))
    })?;
    (weight <= 1000).then_some(weight)
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::heads::fields;
    use proptest::prelude::*;

    fn form<V: AsRef<[u8]>>(name: &str, values: &[V]) -> String {
        let lines: Vec<(&str, &V)> = values.iter().map(|value| (name, value)).collect();
        let mut bytes = Vec::new();
        push_form(&mut bytes, name, &fields(&lines));
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    #[test]
    fn rfc9111_4_1_lines_are_combined_and_space_around_commas_goes() {
        for same in [&["1,2"][..], &["1, 2"], &[" 1 ,\t2 "], &["1", "2"], &["1", " 2"]] {
            assert_eq!(form("foo", same), "=1,2", "{same:?}");
        }
        for (other, expected) in [
            (&["1,3"][..], "=1,3"),
            (&["1 2"], "=1 2"),
            (&["1  2"], "=1  2"),
            (&["12"], "=12"),
            (&["2", "1"], "=2,1"),
            (&["A"], "=A"),
            (&["a"], "=a"),
            (&[""], "="),
            (&["", ""], "=,"),
        ] {
            assert_eq!(form("foo", other), expected, "{other:?}");
        }
        assert_eq!(form::<&str>("foo", &[]), "-", "absent is not empty");
    }

    #[test]
    fn rfc9111_4_1_space_in_quoted_strings_stays() {
        for (value, expected) in [
            ("\"a, b\" , c", "=\"a, b\",c"),
            ("\"a\\\", b\" , c", "=\"a\\\", b\",c"),
            ("\"a\\\\\" , \"b , c\"", "=\"a\\\\\",\"b , c\""),
            ("a=\" \", b", "=a=\" \",b"),
        ] {
            assert_eq!(form("foo", &[value]), expected, "{value}");
        }
    }

    #[test]
    fn rfc9113_8_2_3_crumbs_of_a_cookie_are_one_cookie() {
        assert_eq!(form("cookie", &["a=1", "b=2"]), form("cookie", &["a=1; b=2"]));
        assert_ne!(form("Cookie", &["a=1,b"]), form("Cookie", &["a=1, b"]), "a comma is no list here");
    }

    #[test]
    fn rfc9110_12_5_3_codings_have_no_order_and_no_case() {
        let browser = form("accept-encoding", &["gzip, deflate, br, zstd"]);
        for same in [
            &["gzip,deflate,br,zstd"][..],
            &["zstd, BR", "x-gzip;q=1.0 , deflate ; q=1"],
            &["br,gzip,zstd,,deflate,gzip"],
        ] {
            assert_eq!(form("Accept-Encoding", same), browser, "{same:?}");
        }
        for other in [
            "gzip, br, zstd",
            "gzip, deflate, br, zstd;q=0.9",
            "*",
            "gzip, deflate, br, zstd, identity;q=0",
            "",
        ] {
            assert_ne!(form("accept-encoding", &[other]), browser, "{other}");
        }
        assert_ne!(
            form("accept-encoding", &["deflate"]),
            form("accept-encoding", &["identity"]),
            "a coding we do not know"
        );
    }

    #[test]
    fn rfc9110_12_5_3_a_refusal_counts_where_it_says_something() {
        let encoding = |value: &str| form("accept-encoding", &[value]);
        assert_eq!(encoding("gzip, br;q=0"), encoding("gzip"), "not listed is refused");
        assert_eq!(encoding("gzip;q=0.000"), encoding(""), "nothing but identity");
        assert_ne!(encoding("gzip, identity;q=0"), encoding("gzip"), "identity would do");
        assert_ne!(encoding("*, br;q=0"), encoding("*"), "any but one");
        assert_ne!(encoding("gzip, *;q=0"), encoding("gzip"), "no identity either");
        assert_ne!(encoding("gzip, gzip;q=0"), encoding("gzip"), "who knows");
        assert_ne!(encoding(""), form::<&str>("accept-encoding", &[]), "absent: any coding will do");
    }

    #[test]
    fn rfc9110_12_5_4_languages_go_by_weight_and_then_by_place() {
        let language = |value: &str| form("accept-language", &[value]);
        let base = language("en, de");
        for same in ["eN,De", " en ,   de", "en;q=1.0, de;Q=1", "en,,de,"] {
            assert_eq!(language(same), base, "{same}");
        }
        assert_eq!(form("accept-language", &["en", "de"]), base, "two lines");
        assert_eq!(language("de;q=0.5, en"), language("en, de;q=0.50"), "the weight decides");
        for other in ["de, en", "en", "en, de;q=0.9", "en, de;q=0", "*"] {
            assert_ne!(language(other), base, "{other}");
        }
    }

    #[test]
    fn what_is_no_weight_is_compared_as_it_is_written() {
        for value in
            ["en;q=2", "en;q=1.001", "en;q=0.1234", "en;q=", "en;x=1", "en;q=1;x", "e n", "en;", "q=\"1\""]
        {
            assert!(form("accept-language", &[value]).starts_with('='), "{value}");
        }
        assert_ne!(form("accept-language", &["en;x"]), form("accept-language", &["EN;x"]), "with its case");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_bytes_in_a_selecting_field_are_survived(
            name in prop::sample::select(vec!["accept-encoding", "accept-language", "cookie", "foo"]),
            lines in prop::collection::vec(prop::collection::vec(prop_oneof![
                3 => prop::sample::select(b"gzipbrqQ=01.;, \t*-\"\\".to_vec()), 1 => 0x20..=0x7e_u8, 1 => 0x80..=0xff_u8
            ], 0..20), 1..4),
        ) {
            let bytes = form(name, &lines);
            prop_assert!(!bytes.contains('\0'), "one end");
            // Combining lines never selects another variant.
            let separator: &[u8] = if name == "cookie" { b"; " } else { b", " };
            let is_open = lines.iter().any(|line| line.contains(&b'"'));
            if !is_open {
                let trimmed = lines.iter().map(|line| line.trim_ascii());
                let trimmed: Vec<&[u8]> = trimmed.filter(|line| name != "cookie" || !line.is_empty()).collect();
                prop_assert_eq!(form(name, &[trimmed.join(separator)]), bytes);
            }
        }

        #[test]
        fn what_a_line_says_is_never_lost(a in "[a-c ,]{0,8}", b in "[a-c ,]{0,8}") {
            let words = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(form("foo", &[&a]) == form("foo", &[&b]), words(&a) == words(&b), "{:?} {:?}", a, b);
        }
    }
}
