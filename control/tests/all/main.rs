//! Everything that control does, against real servers.

#[cfg(test)]
mod account;
#[cfg(test)]
mod aggregator;
#[cfg(test)]
mod application_logs;
#[cfg(test)]
mod application_metrics;
#[cfg(test)]
mod application_secrets;
#[cfg(test)]
mod applications;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod authorization;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod edge_policy;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod envelope;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod key_changes;
#[cfg(test)]
mod key_uses;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod mail;
#[cfg(test)]
mod members;
#[cfg(test)]
mod name_server;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod openapi_examples;
#[cfg(test)]
mod operation_events;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod program;
#[cfg(test)]
mod rate_limit;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod request_bodies;
#[cfg(test)]
mod routing_table;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod second_factor;
#[cfg(test)]
mod service;
#[cfg(test)]
mod service_tokens;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sign_in_attempts;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod webhook_settings;
#[cfg(test)]
mod webhooks;
#[cfg(test)]
mod workspace_life;
#[cfg(test)]
mod workspaces;
