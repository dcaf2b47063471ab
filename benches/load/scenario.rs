//! What is asked of the contenders, and which of them are asked it.

use std::sync::Arc;

use serde::Serialize;

use crate::contenders::Contender;
use crate::fleet::{Fleet, Key};
use crate::generator::Traffic;
use crate::plan::Plan;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `GET /v1/{app}/users` with a secret key; all keys take turns.
    Get,
    /// `POST` of 1 KiB to the same.
    Post,
    /// A document that may be kept.
    Cached,
    /// A key with a letter that is not its own.
    BadChecksum,
    /// A key that has used up what it may.
    Limited,
    /// Messages of 1 KiB to and fro.
    WebSocket,
    /// A large answer.
    Download,
    /// A large body.
    Upload,
}

/// One table of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) work: Work,
    pub(crate) contenders: &'static [Contender],
    /// What the bare Pingora is asked in the same rounds, for the ratios.
    pub(crate) against: Work,
    /// What is hoped for.
    pub(crate) targets: &'static [(Contender, Target)],
}

/// In units of the bare Pingora's in the same rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Target {
    /// So much CPU for each at most.
    Cpu(f64),
    /// So many a second at least.
    Throughput(f64),
}

use Contender::{Bare, Direct, Edge, EdgeLogged, EdgeProxy, HaProxy, Nginx, NginxLua};

/// Requests.
pub(crate) const REQUESTS: [Scenario; 5] = [
    Scenario {
        name: "get",
        title: "Authenticated GET",
        work: Work::Get,
        contenders: &[Direct, Bare, Edge, EdgeProxy, EdgeLogged, Nginx, NginxLua, HaProxy],
        against: Work::Get,
        targets: &[(Edge, Target::Cpu(0.75)), (EdgeProxy, Target::Cpu(1.15))],
    },
    Scenario {
        name: "post",
        title: "Authenticated POST of 1 KiB",
        work: Work::Post,
        contenders: &[Direct, Bare, Edge, EdgeProxy, Nginx, NginxLua, HaProxy],
        against: Work::Post,
        targets: &[(Edge, Target::Cpu(0.8))],
    },
    Scenario {
        name: "cached",
        title: "Response from the edge's cache",
        work: Work::Cached,
        contenders: &[Edge, EdgeProxy],
        against: Work::Get,
        targets: &[(Edge, Target::Cpu(0.4))],
    },
    Scenario {
        name: "checksum",
        title: "Refused: a key whose checksum is wrong (401)",
        work: Work::BadChecksum,
        contenders: &[Edge, EdgeProxy, Nginx, NginxLua, HaProxy],
        against: Work::Get,
        targets: &[(Edge, Target::Cpu(0.4))],
    },
    Scenario {
        name: "limited",
        title: "Refused: a key that has used up its rate (429)",
        work: Work::Limited,
        contenders: &[Edge, EdgeProxy, Nginx, NginxLua, HaProxy],
        against: Work::Get,
        targets: &[(Edge, Target::Cpu(0.4))],
    },
];

/// Connections that carry more than a request.
pub(crate) const STREAMS: [Scenario; 3] = [
    Scenario {
        name: "websocket",
        title: "WebSocket, messages of 1 KiB to and fro",
        work: Work::WebSocket,
        contenders: &[Direct, Bare, Edge],
        against: Work::WebSocket,
        targets: &[(Edge, Target::Throughput(0.95))],
    },
    Scenario {
        name: "download",
        title: "Answers of 10 MB",
        work: Work::Download,
        contenders: &[Direct, Bare, Edge],
        against: Work::Download,
        targets: &[(Edge, Target::Throughput(0.95))],
    },
    Scenario {
        name: "upload",
        title: "Bodies of 10 MB",
        work: Work::Upload,
        contenders: &[Direct, Bare, Edge],
        against: Work::Upload,
        targets: &[(Edge, Target::Throughput(0.95))],
    },
];

impl Work {
    /// As in the names of scenarios.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Cached => "cached",
            Self::BadChecksum => "checksum",
            Self::Limited => "limited",
            Self::WebSocket => "websocket",
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }

    /// What the generator sends.
    pub(crate) fn traffic(self, fleet: &Fleet, plan: &Plan) -> Traffic {
        let each = |make: &dyn Fn(&Key) -> Vec<u8>| Arc::new(fleet.keys.iter().map(make).collect::<Vec<_>>());
        let (requests, expected): (_, &'static [u16]) = match self {
            Self::Get => (each(&|key| get(key, "users", key.key.expose())), &[200]),
            Self::Post => (each(&|key| post(key, 1024)), &[200]),
            Self::Cached => (each(&|key| get(key, "v1/client-config", key.key.expose())), &[200]),
            Self::BadChecksum => (each(&|key| get(key, "users", &mistyped(key.key.expose()))), &[401]),
            Self::Limited => {
                let key = &fleet.limited;
                (Arc::new(vec![get(key, "users", key.key.expose())]), &[429, 200])
            }
            Self::Download => {
                let tail = format!("bytes-{}", plan.stream_bytes);
                (each(&|key| get(key, &tail, key.key.expose())), &[200])
            }
            // One for all: ten thousand bodies of 10 MB are more than memory.
            Self::Upload => (Arc::new(vec![post(&fleet.keys[0], plan.stream_bytes)]), &[200]),
            Self::WebSocket => {
                let key = &fleet.keys[0];
                return Traffic::WebSocket {
                    target: format!("/v1/{}/echo", key.app),
                    key: key.key.expose().to_owned(),
                    bytes: 1024,
                };
            }
        };
        Traffic::Http { requests, expected }
    }

    /// How many connections at once.
    pub(crate) fn connections(self, plan: &Plan) -> usize {
        match self {
            Self::Download | Self::Upload => plan.connections.min(8),
            _ => plan.connections,
        }
    }
}

/// What an SDK sends.
pub(crate) fn get(key: &Key, tail: &str, text: &str) -> Vec<u8> {
    format!(
        "GET /v1/{}/{tail} HTTP/1.1\r\nHost: api.authsome.test\r\nUser-Agent: authsome-sdk/1.0\r\n\
         Accept: application/json\r\nX-API-Key: {text}\r\n\r\n",
        key.app
    )
    .into_bytes()
}

pub(crate) fn post(key: &Key, bytes: usize) -> Vec<u8> {
    let mut request = format!(
        "POST /v1/{}/users HTTP/1.1\r\nHost: api.authsome.test\r\nUser-Agent: authsome-sdk/1.0\r\n\
         Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\nX-API-Key: {}\r\n\r\n",
        key.app,
        key.key.expose()
    )
    .into_bytes();
    request.resize(request.len() + bytes, b' ');
    request
}

/// With another letter in the middle of its secret, so that only its checksum is wrong. Not the same letter in the other case:
/// to nginx's `map` that is the same key.
fn mistyped(text: &str) -> String {
    let at = text.len() / 2;
    let other = if text[at..=at].eq_ignore_ascii_case("a") {
        "b"
    } else {
        "a"
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}
