//! Heads for the tests of this room.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;

/// Fields in the order given; a name may come twice. Values may hold any byte that a field can.
pub fn fields<V: AsRef<[u8]>>(lines: &[(&str, V)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::try_from(*name).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
    }
    map
}

/// The head of an answer.
pub fn answer<V: AsRef<[u8]>>(status: u16, lines: &[(&str, V)]) -> ResponseHeader {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in &fields(lines) {
        head.append_header(name.clone(), value.clone()).unwrap();
    }
    head
}

/// All lines of a field, as text.
pub fn lines<'a>(head: &'a ResponseHeader, name: &str) -> Vec<&'a str> {
    head.headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect()
}
