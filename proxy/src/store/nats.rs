//! The one NATS client of the edge. It returns before any server is there and reconnects for ever.

use std::time::Duration;

use authsome_core::nats;
use authsome_core::secret::SecretUrl;

const ATTEMPT: Duration = Duration::from_secs(2);

/// Connects in the background.
pub(super) async fn connect(
    address: &SecretUrl,
) -> Result<async_nats::Client, Box<dyn std::error::Error + Send + Sync>> {
    let (servers, options) = nats::options(address, "authsome-proxy", ATTEMPT)?;
    Ok(options.retry_on_initial_connect().connect(servers).await?)
}
