//! The API reference is a page that needs nothing from anywhere else.

use authsome_control::router::BASES;
use http::{Method, StatusCode, header};

use crate::service::Service;

/// What `attribute="…"` names in a page.
fn named<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!("{attribute}=\"");
    page.split(&start)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

#[tokio::test]
async fn the_reference_is_shown_under_both_bases_with_files_of_its_own_only() {
    let service = Service::new().await;
    for base in BASES {
        let page = service.call(Method::GET, &format!("{base}/docs"), None, None).await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");

        let mut files = named(&page.text, "src");
        files.extend(named(&page.text, "href"));
        assert_eq!(files.len(), 5, "{files:?}");
        for file in files {
            assert!(!file.contains("//") && !file.starts_with('/'), "{file} is elsewhere");
            let answer = service.call(Method::GET, &format!("{base}/{file}"), None, None).await;
            assert_eq!(answer.status, StatusCode::OK, "{file}");
            let kind = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
            let expected = match file.split('?').next().unwrap().rsplit('.').next().unwrap() {
                "css" => "text/css; charset=utf-8",
                "js" => "text/javascript; charset=utf-8",
                "svg" => "image/svg+xml",
                "json" => "application/json",
                other => panic!("{other}"),
            };
            assert_eq!(kind, expected, "{file}");
            if kind.starts_with("text/css") {
                let loads = answer.text.split("url(").skip(1);
                assert!(
                    loads
                        .into_iter()
                        .all(|url| url.trim_start_matches(['"', '\'']).starts_with("data:"))
                );
                assert!(!answer.text.contains("@import"));
            }
        }
    }
}

#[tokio::test]
async fn the_browser_is_told_to_load_the_reference_from_here_only() {
    let service = Service::new().await;
    let page = service.call(Method::GET, "/api/v1/docs", None, None).await;
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for directive in policy.split(';') {
        for source in directive.split_whitespace().skip(1) {
            assert!(matches!(source, "'none'" | "'self'" | "data:"), "{directive}");
        }
    }
    // Only this page may run a script of somebody else.
    let other = service.call(Method::GET, "/api/v1/docs/icon.svg", None, None).await;
    let policy = other.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(!policy.contains("script-src"), "{policy}");
}

#[tokio::test]
async fn docs_leads_to_the_reference() {
    let service = Service::new().await;
    let answer = service.call(Method::GET, "/docs", None, None).await;
    assert!(answer.status.is_redirection());
    assert_eq!(answer.headers[header::LOCATION], "/api/v1/docs");
}
