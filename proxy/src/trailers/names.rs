//! Which names may stand behind a body: none that a recipient could take for something that the head decides.

use http::header::HeaderName;

/// May a field of this name be a trailer?
pub fn may_trail(name: &[u8]) -> bool {
    const PREFIXES: [&str; 10] = [
        "x-authsome-",
        "x-forwarded-",
        "access-control-",
        "content-",
        "if-",
        "proxy-",
        "sec-",
        "x-http-",
        "accept",
        "x-ratelimit-",
    ];
    const NAMES: [&str; 40] = [
        "age",
        "authorization",
        "cache-control",
        "cache-status",
        "cache-tag",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "ratelimit",
        "ratelimit-policy",
        "referer",
        "refresh",
        "retry-after",
        "set-cookie",
        "strict-transport-security",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "www-authenticate",
        "x-api-key",
        "x-app-id",
        "x-publishable-key",
        "x-real-ip",
        "x-request-id",
    ];
    const REWRITES: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-method-override"];
    let Ok(name) = HeaderName::from_bytes(name) else {
        return false;
    };
    let name = name.as_str();
    // An underscore is a hyphen to some servers.
    !name.contains('_')
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !NAMES.contains(&name)
        && !REWRITES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_head_decides_is_no_trailer() {
        for name in ["X-Checksum", "Server-Timing", "Grpc-Status", "Digest", "ETag"] {
            assert!(may_trail(name.as_bytes()), "{name}");
        }
        for name in [
            "Content-Length",
            "Transfer-Encoding",
            "Host",
            "Authorization",
            "X-API-Key",
            "X-AuthSome-App-ID",
            "x_authsome_app_id",
            "Set-Cookie",
            "Trailer",
            "Connection",
            "X-Forwarded-For",
            "",
            "a b",
        ] {
            assert!(!may_trail(name.as_bytes()), "{name}");
        }
    }
}
