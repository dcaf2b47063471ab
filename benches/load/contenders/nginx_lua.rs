//! nginx with Lua, which is how Kong and APISIX are built, without what their plugin frameworks add: SHA-256 by a call into
//! libcrypto, a shared dictionary for a minute, Redis on a miss, a window limiter and a count for each key.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::nginx::{FORWARD, NginxArguments, configuration};
use super::{Contender, Running, Surroundings, answers, find, free, on_cores, tell};

/// Where Debian puts what `libnginx-mod-http-lua` needs.
const MODULES: [&str; 2] = [
    "/usr/lib/nginx/modules/ndk_http_module.so",
    "/usr/lib/nginx/modules/ngx_http_lua_module.so",
];

/// Makes the digest known to FFI; its buffers are made once for each worker.
const INIT: &str = r#"
ffi = require "ffi"
ffi.cdef[[ unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md); ]]
crypto = ffi.load("crypto.so.3")
digest = ffi.new("unsigned char[32]")
"#;

/// Before a request is forwarded. The limits are those of the plans: ten a second for `free`, a thousand otherwise.
const ACCESS: &str = r#"
local key = ngx.var.http_x_api_key
if not key then return ngx.exit(401) end
crypto.SHA256(key, #key, digest)
local hash = ffi.string(digest, 32)
local keys = ngx.shared.keys
local found = keys:get(hash)
if not found then
    local socket = ngx.socket.tcp()
    socket:settimeout(1000)
    if not socket:connect(REDIS_HOST, REDIS_PORT) then return ngx.exit(503) end
    if socket:getreusedtimes() == 0 then
        socket:send("*2\r\n$4\r\nAUTH\r\n$" .. #REDIS_PASSWORD .. "\r\n" .. REDIS_PASSWORD .. "\r\n")
        socket:receive()
    end
    socket:send("*2\r\n$3\r\nGET\r\n$" .. 6 + #hash .. "\r\nbench:" .. hash .. "\r\n")
    local line = socket:receive()
    if not line then return ngx.exit(503) end
    local length = tonumber(line:sub(2))
    found = ""
    if length >= 0 then
        found = socket:receive(length)
        socket:receive(2)
    end
    socket:setkeepalive(60000, 16)
    keys:set(hash, found, 60)
end
local limit = tonumber(found:sub(1, 5))
local app = found:sub(6)
if app ~= ngx.var[1] then return ngx.exit(401) end
local window = hash .. math.floor(ngx.now())
local used = ngx.shared.windows:incr(window, 1, 0, 2)
ngx.header["X-RateLimit-Limit"] = limit
ngx.header["X-RateLimit-Remaining"] = math.max(limit - used, 0)
if used > limit then return ngx.exit(429) end
ngx.shared.usage:incr(app, 1, 0)
ngx.req.set_header("X-AuthSome-App-ID", app)
ngx.header["X-AuthSome-App-ID"] = app
"#;

pub(super) async fn start(around: &Surroundings<'_>) -> Result<Running, String> {
    let program = find("nginx")?;
    if !MODULES.iter().all(|module| Path::new(module).exists()) {
        return Err("libnginx-mod-http-lua is not installed".to_owned());
    }
    let redis = &around.platform.redis;
    for part in around.fleet.keys.chunks(1_000) {
        tell(redis, &rows(redis.password(), part, 1_000)).await;
    }
    let limited = std::slice::from_ref(&around.fleet.limited);
    tell(redis, &rows(redis.password(), limited, 10)).await;

    let directory = around.directory.join("nginx-lua");
    fs::create_dir_all(&directory).unwrap();
    let access = ACCESS
        .replace("REDIS_HOST", "\"127.0.0.1\"")
        .replace("REDIS_PORT", &redis.port().to_string())
        .replace("REDIS_PASSWORD", &format!("\"{}\"", redis.password()));
    fs::write(directory.join("access.lua"), access).unwrap();
    fs::write(directory.join("init.lua"), INIT).unwrap();
    let address = free();
    let mut modules = String::new();
    for module in MODULES {
        writeln!(modules, "load_module {module};").unwrap();
    }
    let at = directory.display();
    let http = format!(
        "lua_shared_dict keys 32m;\nlua_shared_dict windows 32m;\nlua_shared_dict usage 4m;\n\
         lua_package_path \"/usr/share/lua/5.1/?.lua;;\";\ninit_by_lua_file {at}/init.lua;"
    );
    let server = format!(
        "server {{\nlisten {address};\nlocation = /v1/health {{ return 200; }}\n\
         location ~ ^/v1/(app_[a-z0-9]+)(/.*)$ {{\naccess_by_lua_file {at}/access.lua;\n{FORWARD}}}\n}}\n"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration(around, &modules, &http, &server)).unwrap();
    let command = on_cores(
        around.cores,
        &around.cores.contender,
        program,
        around.directory.join("nginx-lua.log"),
    )
    .args_of(&directory, &file);
    Ok(Running::new(
        Contender::NginxLua,
        address,
        answers(command, address).await?,
    ))
}

/// Signs in, and stores each key's digest with its limit and its application.
fn rows(password: &str, keys: &[crate::fleet::Key], limit: u32) -> Vec<u8> {
    let mut lines = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).into_bytes();
    lines.extend_from_slice(format!("*{}\r\n$4\r\nMSET\r\n", 1 + 2 * keys.len()).as_bytes());
    for key in keys {
        let value = format!("{limit:5}{}", key.app);
        lines.extend_from_slice(b"$38\r\nbench:");
        lines.extend_from_slice(key.key.digest().as_bytes());
        lines.extend_from_slice(format!("\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
    }
    lines
}
