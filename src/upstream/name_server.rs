//! A name server for tests: a few names on a loopback port of its own, over UDP, answering as it was last told.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

/// Stops when it is dropped.
pub(super) struct NameServer {
    address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Told>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    /// `None`: the server fails.
    addresses: Option<Vec<IpAddr>>,
    life_seconds: u32,
    questions: usize,
}

impl NameServer {
    pub(super) async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let names = Arc::new(Mutex::new(HashMap::new()));
        let task = tokio::spawn(serve(socket, Arc::clone(&names)));
        Self { address, names, task }
    }

    pub(super) fn config(&self) -> ResolverConfig {
        let mut server = NameServerConfig::udp(self.address.ip());
        for connection in &mut server.connections {
            connection.port = self.address.port();
        }
        ResolverConfig::from_name_servers(vec![server])
    }

    /// From now on `name` has these addresses for `life_seconds`.
    pub(super) fn tell(&self, name: &str, life_seconds: u32, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let mut names = self.names.lock();
        let told = names.entry(name.to_owned()).or_default();
        told.addresses = Some(addresses);
        told.life_seconds = life_seconds;
    }

    /// From now on questions for `name` fail.
    pub(super) fn fail(&self, name: &str) {
        self.names.lock().entry(name.to_owned()).or_default().addresses = None;
    }

    /// How often `name` was asked for (once per family).
    pub(super) fn questions(&self, name: &str) -> usize {
        self.names.lock().get(name).map_or(0, |told| told.questions)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, names: Arc<Mutex<HashMap<String, Told>>>) {
    let mut buffer = [0_u8; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        let answer = answer(&question, &mut names.lock());
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
}

fn answer(question: &Message, names: &mut HashMap<String, Told>) -> Message {
    let query = question.queries.first().unwrap().clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let name = query.name().to_ascii();
    let Some(told) = names.get_mut(name.trim_end_matches('.')) else {
        answer.metadata.response_code = ResponseCode::NXDomain;
        return answer;
    };
    told.questions += 1;
    let Some(addresses) = &told.addresses else {
        answer.metadata.response_code = ResponseCode::ServFail;
        return answer;
    };
    for address in addresses {
        let data = match (address, query.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A((*v4).into()),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA((*v6).into()),
            _ => continue,
        };
        answer.add_answer(Record::from_rdata(query.name().clone(), told.life_seconds, data));
    }
    answer
}
