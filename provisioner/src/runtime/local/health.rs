//! Is an instance there, well, and the right one.

use std::net::SocketAddr;
use std::time::Duration;

use authsome_core::id::ApplicationId;

use super::RuntimeError;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is read; a manifest has under a kilobyte.
const LARGEST: usize = 64 * 1024;

/// What an instance says about itself.
pub(super) const MANIFEST: &str = "/.well-known/authsome/manifest";

/// Asks instances.
#[derive(Clone)]
pub(super) struct Health(reqwest::Client);

/// What an instance answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is well.
    Healthy,
    /// It answers and is not well.
    Unhealthy(String),
    /// Nothing answers.
    Silent(String),
    /// Another program has the port.
    Stranger,
}

impl Health {
    pub(super) fn new() -> Result<Self, RuntimeError> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .build();
        client.map(Self).map_err(|error| RuntimeError::Io {
            doing: "prepare health checks".to_owned(),
            source: std::io::Error::other(error),
        })
    }

    /// Asks `/v1/health`, and first the manifest: two processes may race for a port, and the requests of one customer must
    /// never reach the instance of another.
    pub(super) async fn ask(&self, address: SocketAddr, base_path: &str, application: ApplicationId) -> Answer {
        match self.get(address, base_path, MANIFEST).await {
            Ok((200, body)) => {
                let manifest: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                if manifest["platform_app_id"] != application.to_string() {
                    return Answer::Stranger;
                }
            }
            Ok((_, _)) => return Answer::Stranger,
            Err(error) => return Answer::Silent(error),
        }
        match self.get(address, base_path, "/v1/health").await {
            Ok((200, _)) => Answer::Healthy,
            Ok((status, _)) => Answer::Unhealthy(format!("its health check answers {status}")),
            // It has just answered something that needs no database: it lives, and waits for one.
            Err(error) => Answer::Unhealthy(format!("its health check is not answered: {error}")),
        }
    }

    async fn get(&self, address: SocketAddr, base_path: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
        let describe = |error: reqwest::Error| match () {
            () if error.is_connect() => "it does not listen".to_owned(),
            () if error.is_timeout() => format!("it does not answer within {TIMEOUT:?}"),
            () => "it does not answer in HTTP".to_owned(),
        };
        let mut response = self
            .0
            .get(format!("http://{address}{base_path}{path}"))
            .send()
            .await
            .map_err(describe)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(describe)? {
            if body.len() + chunk.len() > LARGEST {
                return Err("its answer has no end".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status().as_u16(), body))
    }
}
