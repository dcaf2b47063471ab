//! A name server of the tests: it answers what it was told, over UDP.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const A: u16 = 1;
const TXT: u16 = 16;

#[derive(Default)]
struct Zone {
    texts: HashMap<String, Vec<String>>,
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    broken: bool,
}

/// Names that are not told do not exist.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    serving: JoinHandle<()>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let known = Arc::clone(&zone);
        let serving = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let reply = answer(&packet[..length], &known.lock().unwrap());
                let _ = socket.send_to(&reply, from).await;
            }
        });
        Self { address, zone, serving }
    }

    /// The TXT records of a name from now on.
    pub(crate) fn texts(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.zone.lock().unwrap().texts.insert(name.to_owned(), texts);
    }

    /// The addresses of a name from now on.
    pub(crate) fn addresses(&self, name: &str, addresses: &[Ipv4Addr]) {
        let addresses = addresses.to_vec();
        self.zone.lock().unwrap().addresses.insert(name.to_owned(), addresses);
    }

    /// Every question fails from now on, or no longer.
    pub(crate) fn fail(&self, broken: bool) {
        self.zone.lock().unwrap().broken = broken;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The name that is asked for, and where the question ends (RFC 1035, 4.1.2).
fn question(packet: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while packet[at] != 0 {
        let length = usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..=at + length]).to_ascii_lowercase());
        at += 1 + length;
    }
    (labels.join("."), at + 5)
}

fn answer(packet: &[u8], zone: &Zone) -> Vec<u8> {
    let (name, end) = question(packet);
    let query = &packet[..end];
    let wanted = u16::from_be_bytes([query[end - 4], query[end - 3]]);
    let data: Vec<Vec<u8>> = match wanted {
        TXT => zone
            .texts
            .get(&name)
            .into_iter()
            .flatten()
            .map(|text| {
                // Character strings hold at most 255 bytes.
                text.as_bytes()
                    .chunks(200)
                    .flat_map(|part| {
                        let mut string = vec![u8::try_from(part.len()).unwrap()];
                        string.extend(part);
                        string
                    })
                    .collect()
            })
            .collect(),
        A => zone
            .addresses
            .get(&name)
            .into_iter()
            .flatten()
            .map(|address| address.octets().to_vec())
            .collect(),
        _ => Vec::new(),
    };
    let known = zone.texts.contains_key(&name) || zone.addresses.contains_key(&name);
    let code = match (zone.broken, known) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 3,
    };
    let data = if zone.broken { Vec::new() } else { data };
    let mut reply = query.to_vec();
    reply[2] = 0x84 | (query[2] & 1);
    reply[3] = 0x80 | code;
    reply[4..12].fill(0);
    reply[5] = 1;
    reply[7] = u8::try_from(data.len()).unwrap();
    for record in data {
        // The name of the question, the type, IN, one second.
        reply.extend([0xc0, 12]);
        reply.extend(wanted.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 1]);
        reply.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
        reply.extend(record);
    }
    reply
}
