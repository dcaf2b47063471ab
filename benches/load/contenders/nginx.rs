//! nginx with the keys in a static map: what somebody writes who has an afternoon. A changed key needs a reload, `map` ignores
//! the case of what it looks up (a key with its letters' case changed opens too), and nothing is counted.

use std::fmt::Write;
use std::fs;

use crate::cores::connections;

use super::{Contender, Running, Surroundings, answers, find, free, on_cores};

/// What every nginx here has in common; `http` and `location` are what the contender adds.
pub(super) fn configuration(around: &Surroundings<'_>, modules: &str, http: &str, server: &str) -> String {
    let threads = around.cores.contender.len();
    let upstream = around.upstream;
    let connections = 2 * connections(10_000);
    format!(
        "{modules}daemon off;\nworker_processes {threads};\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n\
         access_log off;\nserver_tokens off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 600s;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         client_body_buffer_size 64k;\nclient_max_body_size 11m;\n\
         upstream instances {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }}\n\
         {http}\n\
         {server}\n\
         }}\n"
    )
}

/// Headers that go to the instance and to the client.
pub(super) const FORWARD: &str = "proxy_http_version 1.1;\nproxy_set_header Connection \"\";\nproxy_set_header Host $host;\n\
     proxy_set_header X-API-Key \"\";\nproxy_set_header X-Forwarded-For $remote_addr;\n\
     proxy_set_header X-Forwarded-Proto $scheme;\nproxy_set_header X-Request-Id $request_id;\n\
     proxy_pass http://instances$2$is_args$args;\n";

pub(super) async fn start(around: &Surroundings<'_>) -> Result<Running, String> {
    let program = find("nginx")?;
    let directory = around.directory.join("nginx-map");
    fs::create_dir_all(&directory).unwrap();
    let mut keys = String::new();
    for key in around.fleet.keys.iter().chain([&around.fleet.limited]) {
        writeln!(keys, "\"{}\" {};", key.key.expose(), key.app).unwrap();
    }
    let free_key = around.fleet.limited.key.expose();
    fs::write(directory.join("keys.map"), keys).unwrap();
    let address = free();
    let http = format!(
        "map_hash_max_size 65536;\nmap_hash_bucket_size 256;\n\
         map $http_x_api_key $app {{ default \"\"; include {}/keys.map; }}\n\
         map $http_x_api_key $wide {{ default $http_x_api_key; \"{free_key}\" \"\"; }}\n\
         map $http_x_api_key $narrow {{ default \"\"; \"{free_key}\" $http_x_api_key; }}\n\
         limit_req_zone $wide zone=wide:16m rate=1000r/s;\nlimit_req_zone $narrow zone=narrow:1m rate=10r/s;\nlimit_req_status 429;",
        directory.display()
    );
    let server = format!(
        "server {{\nlisten {address};\nlocation = /v1/health {{ return 200; }}\n\
         location ~ ^/v1/(app_[a-z0-9]+)(/.*)$ {{\nif ($app != $1) {{ return 401; }}\n\
         limit_req zone=wide burst=1000 nodelay;\nlimit_req zone=narrow burst=10 nodelay;\n\
         proxy_set_header X-AuthSome-App-ID $app;\nadd_header X-AuthSome-App-ID $app;\n\
         {FORWARD}}}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration(around, "", &http, &server)).unwrap();
    let command = on_cores(
        around.cores,
        &around.cores.contender,
        program,
        around.directory.join("nginx-map.log"),
    )
    .args_of(&directory, &file);
    Ok(Running::new(
        Contender::Nginx,
        address,
        answers(command, address).await?,
    ))
}

/// The arguments that every nginx here is started with.
pub(super) trait NginxArguments {
    fn args_of(self, directory: &std::path::Path, file: &std::path::Path) -> Self;
}

impl NginxArguments for authsome_testkit::GuardedCommand {
    fn args_of(self, directory: &std::path::Path, file: &std::path::Path) -> Self {
        self.arg("-p")
            .arg(directory.display().to_string())
            .arg("-e")
            .arg("stderr")
            .arg("-c")
            .arg(file.display().to_string())
    }
}
