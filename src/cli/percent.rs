//! Percent-encoding (RFC 3986 §2.1) and forms, undone.

/// A text with every `%XX` as the byte that it stands for; what is no such triple stays.
pub(super) fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The same of a value in a form or query, where `+` is a space.
pub(super) fn form_decoded(text: &str) -> String {
    decoded(&text.replace('+', " "))
}

/// The parameters of a query, names and values decoded.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
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
