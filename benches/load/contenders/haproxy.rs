//! HAProxy with the keys' digests in a map file, a rate and a count for each key. A changed key needs its run-time API or a
//! reload.

use std::fmt::Write;
use std::fs;

use crate::cores::connections;

use super::{Contender, Running, Surroundings, answers, find, free, on_cores};

pub(super) async fn start(around: &Surroundings<'_>) -> Result<Running, String> {
    let program = find("haproxy")?;
    let directory = around.directory.join("haproxy");
    fs::create_dir_all(&directory).unwrap();
    let mut keys = String::new();
    for key in around.fleet.keys.iter().chain([&around.fleet.limited]) {
        writeln!(keys, "{} {}", hexadecimal(key.key.digest().as_bytes()), key.app).unwrap();
    }
    let map = directory.join("keys.map");
    fs::write(&map, keys).unwrap();
    let limited = hexadecimal(around.fleet.limited.key.digest().as_bytes());
    let address = free();
    let configuration = format!(
        "global\n  nbthread {threads}\n  maxconn {maxconn}\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 600s\n  timeout server 600s\n  timeout http-keep-alive 600s\n\
         \x20 http-reuse always\n\
         frontend edge\n  bind {address}\n\
         \x20 http-request return status 200 if {{ path /v1/health }}\n\
         \x20 stick-table type string len 64 size 100k expire 60s store http_req_rate(1s),http_req_cnt\n\
         \x20 http-request set-var(txn.hash) req.hdr(X-API-Key),sha2(256),hex\n\
         \x20 http-request set-var(txn.app) var(txn.hash),map_str({map})\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.app) -m found }}\n\
         \x20 http-request set-var(txn.path) path,field(3,/)\n\
         \x20 http-request deny deny_status 401 unless {{ var(txn.app),strcmp(txn.path) eq 0 }}\n\
         \x20 http-request track-sc0 var(txn.hash)\n\
         \x20 http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000 }}\n\
         \x20 http-request deny deny_status 429 if {{ var(txn.hash) -m str {limited} }} {{ sc_http_req_rate(0) gt 10 }}\n\
         \x20 http-request replace-path /v1/[^/]+(/.*) \\1\n\
         \x20 http-request del-header X-API-Key\n\
         \x20 http-request set-header X-AuthSome-App-ID %[var(txn.app)]\n\
         \x20 http-request set-header X-Forwarded-For %[src]\n\
         \x20 http-response set-header X-AuthSome-App-ID %[var(txn.app)]\n\
         \x20 default_backend instances\n\
         backend instances\n  server one {upstream}\n",
        maxconn = connections(10_000),
        threads = around.cores.contender.len(),
        map = map.display(),
        upstream = around.upstream,
    );
    let file = directory.join("haproxy.cfg");
    fs::write(&file, configuration).unwrap();
    let command = on_cores(
        around.cores,
        &around.cores.contender,
        program,
        around.directory.join("haproxy-map.log"),
    )
    .arg("-db")
    .arg("-f")
    .arg(file.display().to_string());
    Ok(Running::new(
        Contender::HaProxy,
        address,
        answers(command, address).await?,
    ))
}

/// As HAProxy's `hex` writes it.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").unwrap();
        text
    })
}
