//! Forms that create something with a secret: reloading the answer sends them again.

use reqwest::StatusCode;

use super::{Browser, Site};

#[tokio::test]
async fn a_form_that_creates_a_key_creates_one_however_often_it_is_sent() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    let workspace = browser.workspace("Acme").await;
    let (page, _) = browser.application(&workspace, "Shop").await;
    let form = browser.open(&page).await;
    let (csrf, id) = (form.field("csrf"), form.field("id"));
    let fields = [
        ("csrf", csrf.as_str()),
        ("id", &id),
        ("name", "CI server"),
        ("type", "secret"),
    ];
    let path = format!("{page}/keys");
    let created = browser.submit(&path, &fields).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert!(created.between("data-copy=\"sk_test_", "\"").is_some());
    assert_ne!(created.field("id"), id, "the next form makes the next key");
    for _ in 0..2 {
        let again = browser.submit(&path, &fields).await;
        assert_eq!(again.status, StatusCode::SEE_OTHER, "{}", again.html);
        let shown = browser.open(&again.location.unwrap()).await;
        assert_eq!(shown.status, StatusCode::OK);
        assert!(shown.html.contains("A secret key is shown only once"), "{}", shown.html);
        assert!(shown.between("data-copy=\"sk_test_", "\"").is_none());
    }
    assert_eq!(
        site.count("SELECT count(*) FROM api_keys WHERE name = 'CI server'")
            .await,
        1
    );
    assert_eq!(
        site.count("SELECT count(*) FROM audit_events WHERE action = 'key.create'")
            .await,
        1
    );
    // Asking for the address of the form's answer is no form.
    assert_eq!(browser.open(&path).await.location.as_deref(), Some(page.as_str()));
}

#[tokio::test]
async fn a_form_that_creates_an_application_creates_one_however_often_it_is_sent() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    let workspace = browser.workspace("Acme").await;
    // The free plan has room for three: the form is good for the last one.
    browser.application(&workspace, "First").await;
    browser.application(&workspace, "Second").await;
    let form = browser.open(&workspace).await;
    let (csrf, id) = (form.field("csrf"), form.field("id"));
    let fields = [
        ("csrf", csrf.as_str()),
        ("id", &id),
        ("name", "Shop"),
        ("environment", "development"),
        ("region", "local"),
    ];
    let path = format!("{workspace}/applications");
    let mut twin = Browser {
        http: browser.http.clone(),
        base: browser.base.clone(),
        cookie: browser.cookie.clone(),
    };
    let (one, other) = tokio::join!(browser.submit(&path, &fields), twin.submit(&path, &fields));
    let mut statuses = [one.status, other.status];
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::CREATED, StatusCode::SEE_OTHER],
        "also at the same time"
    );
    let again = browser.submit(&path, &fields).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "{}", again.html);
    let location = again.location.unwrap();
    assert!(location.starts_with(&format!("/applications/{id}?")), "{location}");
    let shown = browser.open(&location).await;
    assert!(shown.html.contains("A secret key is shown only once"), "{}", shown.html);
    assert!(shown.between("data-copy=\"sk_test_", "\"").is_none());
    assert_eq!(site.count("SELECT count(*) FROM applications").await, 3);
    assert_eq!(site.count("SELECT count(*) FROM api_keys").await, 6);
    assert_eq!(site.count("SELECT count(*) FROM operations").await, 3);
    assert_eq!(browser.open(&path).await.location.as_deref(), Some(workspace.as_str()));
}

#[tokio::test]
async fn a_form_whose_id_is_not_exactly_one_of_its_kind_is_refused() {
    let site = Site::new().await;
    let mut browser = site.signed_in("ada@example.com").await;
    let workspace = browser.workspace("Acme").await;
    let form = browser.open(&workspace).await;
    let (csrf, application) = (form.field("csrf"), form.field("id"));
    let (page, _) = browser.application(&workspace, "Shop").await;
    let key = browser.open(&page).await.field("id");
    let overflow = format!("_8{}", "z".repeat(25));
    for (path, own, other) in [
        (format!("{page}/keys"), &key, &application),
        (format!("{workspace}/applications"), &application, &key),
    ] {
        let prefix = own.split('_').next().unwrap();
        let wrong = [
            String::new(),
            prefix.to_owned(),
            format!("{own}0"),
            format!(" {own}"),
            own.to_uppercase(),
            format!("{prefix}{overflow}"),
            other.clone(),
        ];
        for id in wrong {
            let fields = [
                ("csrf", csrf.as_str()),
                ("id", &id),
                ("name", "Second"),
                ("type", "secret"),
                ("environment", "development"),
                ("region", "local"),
            ];
            let reply = browser.submit(&path, &fields).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{id:?}: {}", reply.html);
        }
    }
    assert_eq!(site.count("SELECT count(*) FROM api_keys").await, 2);
    assert_eq!(site.count("SELECT count(*) FROM applications").await, 1);
}
