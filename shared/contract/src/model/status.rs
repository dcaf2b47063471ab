//! The status machine of an application, and what its status means to the edge.

use super::closed::closed_set;

closed_set! {
    /// Where an application is in its life.
    AppStatus, "application status" {
        /// Being built for the first time.
        Provisioning = "provisioning",
        /// Serving.
        Active = "active",
        /// Serving while a new configuration rolls out.
        Updating = "updating",
        /// Serving while its instances restart one after the other.
        Restarting = "restarting",
        /// Stopped on purpose; data kept.
        Suspended = "suspended",
        /// The last operation failed; serves if it served before.
        Failed = "failed",
        /// Keys are dead; can be undeleted until `purge_after`.
        Deleting = "deleting",
        /// Being destroyed. A one-way door.
        Purging = "purging",
        /// Gone; the row remains for usage and audit.
        Deleted = "deleted",
    }
}

closed_set! {
    /// Whether a workspace may use its applications.
    WorkspaceStatus, "workspace status" {
        /// In good standing.
        Active = "active",
        /// Stopped by staff or billing.
        Suspended = "suspended",
        /// In its grace period or gone.
        Deleted = "deleted",
    }
}

closed_set! {
    /// What moves an application from one status to another.
    Event, "status event" {
        /// The present operation reached its end.
        Succeeded = "succeeded",
        /// It failed for good.
        Failed = "failed",
        /// New configuration.
        Update = "update",
        /// Restart asked for.
        Restart = "restart",
        /// Stop asked for.
        Suspend = "suspend",
        /// Start again after a stop.
        Resume = "resume",
        /// Try the failed operation again.
        Retry = "retry",
        /// Deletion asked for.
        Delete = "delete",
        /// Deletion taken back.
        Undelete = "undelete",
        /// The grace period is over.
        Purge = "purge",
    }
}

/// An event that the present status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an application that is {status} cannot {event}")]
pub struct IllegalTransition {
    /// The present status.
    pub status: AppStatus,
    /// What was asked for.
    pub event: Event,
}

closed_set! {
    /// Why the edge refuses an application's requests. The text is public (`reason` in the error body).
    Refusal, "refusal" {
        /// Not built yet.
        Provisioning = "provisioning",
        /// Stopped on purpose.
        Suspended = "suspended",
        /// Never came up.
        Failed = "failed",
        /// Keys are dead; whoever asks learns no more than that.
        Deleted = "deleted",
    }
}

/// What the edge does with an application's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serve {
    /// Forward them.
    Yes,
    /// Answer them here.
    Refuse(Refusal),
}

impl AppStatus {
    /// May the edge forward? `activated`: the application has served before, so a failure since then is a failed change to a
    /// running system, not an outage.
    pub const fn serve(self, activated: bool, workspace: WorkspaceStatus) -> Serve {
        match (self, workspace) {
            (Self::Deleting | Self::Purging | Self::Deleted, _) | (_, WorkspaceStatus::Deleted) => {
                Serve::Refuse(Refusal::Deleted)
            }
            (Self::Suspended, _) | (_, WorkspaceStatus::Suspended) => Serve::Refuse(Refusal::Suspended),
            (Self::Active | Self::Updating | Self::Restarting, WorkspaceStatus::Active) => Serve::Yes,
            (Self::Failed, WorkspaceStatus::Active) => {
                if activated {
                    Serve::Yes
                } else {
                    Serve::Refuse(Refusal::Failed)
                }
            }
            (Self::Provisioning, WorkspaceStatus::Active) => Serve::Refuse(Refusal::Provisioning),
        }
    }

    /// Is work under way? Every such status has a deadline.
    pub const fn is_transitional(self) -> bool {
        matches!(
            self,
            Self::Provisioning | Self::Updating | Self::Restarting | Self::Deleting | Self::Purging
        )
    }

    /// The next status, or why there is none.
    #[expect(
        clippy::match_same_arms,
        reason = "one row a rule; merged rows would hide which rule is which"
    )]
    pub const fn after(self, event: Event) -> Result<Self, IllegalTransition> {
        use AppStatus as S;
        use Event as E;
        let next = match (self, event) {
            (S::Provisioning | S::Updating | S::Restarting, E::Succeeded) => S::Active,
            (S::Provisioning | S::Updating | S::Restarting, E::Failed) => S::Failed,
            // A purge that fails is tried again: half-destroyed is not a state to rest in.
            (S::Purging, E::Failed) => S::Purging,
            (S::Purging, E::Succeeded) => S::Deleted,
            (S::Active | S::Updating | S::Restarting | S::Failed, E::Update) => S::Updating,
            // A change during the first build is part of that build.
            (S::Provisioning, E::Update) => S::Provisioning,
            // Configuration of a stopped application is kept for when it starts again.
            (S::Suspended, E::Update | E::Suspend) => S::Suspended,
            (S::Active | S::Restarting, E::Restart) => S::Restarting,
            (S::Active | S::Updating | S::Restarting | S::Failed, E::Suspend) => S::Suspended,
            (S::Suspended, E::Resume) => S::Updating,
            (S::Failed, E::Retry) => S::Provisioning,
            (
                S::Provisioning | S::Active | S::Updating | S::Restarting | S::Suspended | S::Failed | S::Deleting,
                E::Delete,
            ) => S::Deleting,
            (S::Deleting, E::Undelete) => S::Updating,
            (S::Deleting | S::Purging, E::Purge) => S::Purging,
            _ => return Err(IllegalTransition { status: self, event }),
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(status: AppStatus) -> Vec<AppStatus> {
        Event::ALL
            .iter()
            .filter_map(|&event| status.after(event).ok())
            .collect()
    }

    fn reaches(from: AppStatus, goal: AppStatus) -> bool {
        let mut seen = vec![from];
        let mut index = 0;
        while index < seen.len() {
            for status in next(seen[index]) {
                if !seen.contains(&status) {
                    seen.push(status);
                }
            }
            index += 1;
        }
        seen.contains(&goal)
    }

    #[test]
    fn no_status_is_stuck() {
        for &status in AppStatus::ALL {
            if status != AppStatus::Deleted {
                assert!(reaches(status, AppStatus::Deleted), "{status} can never be deleted");
            }
            if !matches!(status, AppStatus::Purging | AppStatus::Deleted) {
                assert!(reaches(status, AppStatus::Active), "{status} can never become active");
            }
        }
    }

    #[test]
    fn purging_is_a_one_way_door() {
        for &goal in AppStatus::ALL {
            if !matches!(goal, AppStatus::Purging | AppStatus::Deleted) {
                assert!(!reaches(AppStatus::Purging, goal), "purging leads to {goal}");
            }
        }
        assert!(next(AppStatus::Deleted).is_empty());
    }

    #[test]
    fn every_status_before_the_door_can_be_deleted() {
        for &status in AppStatus::ALL {
            let deletable = !matches!(status, AppStatus::Purging | AppStatus::Deleted);
            assert_eq!(status.after(Event::Delete).is_ok(), deletable, "{status}");
        }
    }

    #[test]
    fn serving_follows_status_history_and_workspace() {
        use Refusal as R;
        let expected = |status: AppStatus, activated: bool| match status {
            AppStatus::Active | AppStatus::Updating | AppStatus::Restarting => Serve::Yes,
            AppStatus::Failed if activated => Serve::Yes,
            AppStatus::Failed => Serve::Refuse(R::Failed),
            AppStatus::Provisioning => Serve::Refuse(R::Provisioning),
            AppStatus::Suspended => Serve::Refuse(R::Suspended),
            AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted => Serve::Refuse(R::Deleted),
        };
        for &status in AppStatus::ALL {
            for activated in [false, true] {
                assert_eq!(
                    status.serve(activated, WorkspaceStatus::Active),
                    expected(status, activated),
                    "{status}"
                );
                assert_ne!(status.serve(activated, WorkspaceStatus::Suspended), Serve::Yes);
                assert_eq!(
                    status.serve(activated, WorkspaceStatus::Deleted),
                    Serve::Refuse(R::Deleted)
                );
            }
        }
    }

    #[test]
    fn names_are_stable() {
        for &status in AppStatus::ALL {
            assert_eq!(status.as_str().parse::<AppStatus>().unwrap(), status);
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }
}
