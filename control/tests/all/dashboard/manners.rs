//! What all pages have in common.

use http::StatusCode;

use super::Site;

#[tokio::test]
async fn pages_forbid_inline_scripts_frames_and_caching() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    for path in ["/login", "/workspaces", "/workspaces/nonsense"] {
        let reply = browser.open(path).await;
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.headers["cache-control"], "no-store");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
        assert!(
            reply.html.contains("href=\"/api/v1/docs\""),
            "{path} leads to the reference"
        );
        assert!(!reply.html.contains("<script>") && !reply.html.contains("style=") && !reply.html.contains("onclick"));
    }
    for (path, kind) in [
        ("/static/dashboard.css", "text/css"),
        ("/static/dashboard.js", "text/javascript"),
        ("/static/icon.svg", "image/svg"),
    ] {
        let reply = browser.open(path).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(reply.headers["content-type"].to_str().unwrap().starts_with(kind));
    }
}

#[tokio::test]
async fn without_the_database_a_page_says_so() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    site.pool.close().await;
    let reply = browser.open("/workspaces").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.html.contains("Unavailable for the moment") && reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn an_unknown_page_is_a_page_to_a_browser_and_an_error_body_to_a_program() {
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let site = Site::new().await;
    let mut browser = site.browser();
    for (path, accept, page) in [
        ("/nothing", BROWSER, true),
        ("/applications", "text/html", true),
        ("/nothing", "*/*", false),
        ("/nothing", "application/json", false),
        ("/api/v1/nothing", BROWSER, false),
        ("/api/v2", BROWSER, false),
        ("/control/v1/nothing", BROWSER, false),
    ] {
        let request = browser
            .http
            .get(format!("{}{path}", site.base))
            .header("accept", accept);
        let reply = browser.send(request).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        let kind = reply.headers["content-type"].to_str().unwrap();
        assert_eq!(kind.starts_with("text/html"), page, "{path} {accept}: {kind}");
        if page {
            assert!(
                reply.html.contains("<h1>Not found</h1>") && reply.html.contains("/static/dashboard.css"),
                "{}",
                reply.html
            );
            let policy = reply.headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("style-src 'self'"), "{policy}");
        } else {
            assert!(reply.html.contains("\"not_found\""), "{}", reply.html);
        }
    }
}
