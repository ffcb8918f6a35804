//! Percent-encoding (RFC 3986 §2.1), undone.

/// A text with every `%XX` as the byte that it stands for; what is no such triple stays.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parameters of a query, names and values decoded; `+` is a space.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let plain = |text: &str| decoded(&text.replace('+', " "));
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(n, v)| (plain(n), plain(v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_are_undone_and_everything_else_stays() {
        assert_eq!(decoded("a%2Fb%2fc%zz%4"), "a/b/c%zz%4");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("a=1&b=x+y%26&c&&d="),
            [pair("a", "1"), pair("b", "x y&"), pair("c", ""), pair("d", "")]
        );
    }
}
