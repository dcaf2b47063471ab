//! How applications are kept apart on the servers that hold their data.

use super::closed::closed_set;

closed_set! {
    /// How an application's database is kept apart from others'.
    DatabaseChoice, "database strategy" {
        /// A database of its own on a shared server.
        Database = "database",
        /// A schema of its own in a shared database.
        Schema = "schema",
        /// A server of its own.
        Dedicated = "dedicated",
    }
}

closed_set! {
    /// How an application's Redis keys are kept apart from others'.
    RedisChoice, "Redis strategy" {
        /// A user of its own with a key prefix on a shared server.
        Acl = "acl",
        /// A server of its own.
        Dedicated = "dedicated",
    }
}
