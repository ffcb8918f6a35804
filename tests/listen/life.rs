//! Caps, and the end of a listener.

use std::net::{IpAddr, Ipv4Addr};

use portcullis::server::listen::{Protocol, Refusal, Settings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::house::{Event, PATIENCE, patient, read_all, read_answer, start};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_caps_are_closed_and_slots_come_back() {
    for (settings, why) in [
        (Settings { max_connections: 2, ..patient() }, Refusal::TotalLimit),
        (Settings { max_connections_per_address: 2, ..patient() }, Refusal::AddressLimit),
    ] {
        let house = start(settings);
        let (first, _second) = (house.connect().await, house.connect().await);
        house.record.wait(Event::Opened(Protocol::Http1), 2).await;
        assert_eq!(read_all(&mut house.connect().await).await, "", "{why:?}");
        house.record.wait(Event::Refused(why, HOME), 1).await;
        drop(first);
        house.record.wait(Event::Closed, 1).await;
        // The share is given back right after: until then, another refusal is in order.
        loop {
            let mut next = house.connect().await;
            let sent = next.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            let answer = read_all(&mut next).await;
            if sent.is_ok() && answer.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_closes_the_idle_finishes_the_busy_and_ends() {
    let house = start(patient());
    let mut idle = house.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    read_answer(&mut idle).await;
    let mut fresh = house.connect().await;
    let mut busy = house.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    house.begun.notified().await;

    house.stop.send(true).expect("a listener");
    assert_eq!(read_all(&mut idle).await, "", "idle after a request");
    assert_eq!(read_all(&mut fresh).await, "", "idle from the beginning");
    house.record.wait(Event::Closed, 2).await;
    assert!(!house.serving.is_finished(), "one request is in flight");
    house.release.notify_one();
    let answer = read_all(&mut busy).await;
    assert!(answer.ends_with("released"), "{answer}");
    tokio::time::timeout(PATIENCE, house.serving).await.expect("an end").expect("no panic");
    assert!(TcpStream::connect(house.address).await.is_err(), "the port is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_ends_when_nobody_can_stop_it_any_more() {
    let house = start(patient());
    drop(house.stop);
    tokio::time::timeout(PATIENCE, house.serving).await.expect("an end").expect("no panic");
}
