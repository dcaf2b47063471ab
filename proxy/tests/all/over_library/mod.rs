//! The tests of what clients and instances see, once more with the lane switched off, so that the forwarding library serves
//! what the lane serves otherwise. The fixture knows by the test's name.

#[path = "../edge_addresses.rs"]
mod edge_addresses;
#[path = "../edge_answers.rs"]
mod edge_answers;
#[path = "../edge_browsers.rs"]
mod edge_browsers;
#[path = "../edge_credentials.rs"]
mod edge_credentials;
#[path = "../edge_faults.rs"]
mod edge_faults;
#[path = "../edge_forwards.rs"]
mod edge_forwards;
#[path = "../edge_hostile.rs"]
mod edge_hostile;
#[path = "../edge_live.rs"]
mod edge_live;
#[path = "../edge_observed.rs"]
mod edge_observed;
#[path = "../edge_protocols.rs"]
mod edge_protocols;
#[path = "../edge_refuses.rs"]
mod edge_refuses;
#[path = "../edge_tls.rs"]
mod edge_tls;
#[path = "../limits.rs"]
mod limits;
#[path = "../upstream_caps.rs"]
mod upstream_caps;
#[path = "../upstream_health.rs"]
mod upstream_health;
#[path = "../upstream_names.rs"]
mod upstream_names;
#[path = "../upstream_retry.rs"]
mod upstream_retry;
#[path = "../upstream_tls.rs"]
mod upstream_tls;
