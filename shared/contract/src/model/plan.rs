//! Plans and what they allow at the edge and in the cluster.

use super::closed::closed_set;

const MIB: u64 = 1024 * 1024;

closed_set! {
    /// What a workspace pays for.
    Plan, "plan" {
        /// No charge; hard limits.
        Free = "free",
        /// Monthly fee with included usage.
        Pro = "pro",
        /// By contract.
        Enterprise = "enterprise",
    }
}

/// The limits of a plan that the edge enforces. An enterprise contract may override them for one application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Requests a second for each API key.
    pub requests_per_second: u32,
    /// Requests a calendar month for the application; `None` is unlimited.
    pub requests_per_month: Option<u64>,
    /// Bytes of a request body.
    pub body_bytes: u64,
}

/// What one instance of an application may use, as Kubernetes quantities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// CPU, e.g. `500m`.
    pub cpu: &'static str,
    /// Memory, e.g. `512Mi`.
    pub memory: &'static str,
    /// Database storage, e.g. `5Gi`.
    pub storage: &'static str,
    /// Connections that the application's database roles may open together.
    pub database_connections: u32,
}

impl Plan {
    /// What the edge enforces.
    pub const fn edge_limits(self) -> EdgeLimits {
        match self {
            Self::Free => EdgeLimits {
                requests_per_second: 10,
                requests_per_month: Some(100_000),
                body_bytes: MIB,
            },
            Self::Pro => EdgeLimits {
                requests_per_second: 100,
                requests_per_month: None,
                body_bytes: 10 * MIB,
            },
            Self::Enterprise => EdgeLimits {
                requests_per_second: 1_000,
                requests_per_month: None,
                body_bytes: 10 * MIB,
            },
        }
    }

    /// Applications a workspace may have; `None` is unlimited.
    pub const fn application_limit(self) -> Option<u32> {
        match self {
            Self::Free => Some(3),
            Self::Pro | Self::Enterprise => None,
        }
    }

    /// What one instance may use.
    pub const fn resources(self) -> Resources {
        match self {
            Self::Free => Resources {
                cpu: "500m",
                memory: "512Mi",
                storage: "5Gi",
                database_connections: 20,
            },
            Self::Pro => Resources {
                cpu: "1000m",
                memory: "2Gi",
                storage: "20Gi",
                database_connections: 60,
            },
            Self::Enterprise => Resources {
                cpu: "2000m",
                memory: "4Gi",
                storage: "100Gi",
                database_connections: 100,
            },
        }
    }
}
