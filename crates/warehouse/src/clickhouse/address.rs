//! Parses the address of a ClickHouse database.

use std::fmt;

use trialog_model::percent::decode as decoded;

/// `clickhouse://user:password@host:8123/database?secure=true&cluster=name`.
///
/// `secure=true` speaks HTTPS, with a certificate of the authorities in the PEM file `ca`, else
/// of the public ones. With `cluster`, tables are replicated and
/// distributed over that cluster. Any other key is a setting that goes with
/// every query, such as `max_memory_usage`.
///
/// ```
/// use trialog_warehouse::clickhouse::Address;
/// let address: Address = "clickhouse://mia:s%2Fecret@ch.example:8123/trialog?max_threads=4".parse()?;
/// assert_eq!(address.to_string(), "clickhouse://ch.example:8123/trialog");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
    pub(super) is_secure: bool,
    pub(super) cluster: Option<String>,
    /// A PEM file with the authorities of the certificate; without it, the public ones.
    pub(super) authorities: Option<String>,
    pub(super) settings: Vec<(String, String)>,
}

const SHAPE: &str = "give one such as clickhouse://user:password@host:8123/database";

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("`warehouse` {what}: {SHAPE}");
        let rest = text
            .strip_prefix("clickhouse://")
            .ok_or_else(|| bad("does not begin with clickhouse://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("default", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let mut address = Self {
            host: String::new(),
            port: 0,
            user: decoded(user).ok_or_else(|| bad("has a user that cannot be read"))?,
            password: decoded(password).ok_or_else(|| bad("has a password that cannot be read"))?,
            database: if database.is_empty() {
                "default"
            } else {
                database
            }
            .to_owned(),
            is_secure: false,
            cluster: None,
            authorities: None,
            settings: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                bad("has a part without `=` after the `?`: write `&` within a value as %26")
            })?;
            let value =
                decoded(value).ok_or_else(|| bad(&format!("has a `{key}` that cannot be read")))?;
            match key {
                "secure" => {
                    address.is_secure = value
                        .parse()
                        .map_err(|_| bad("has a `secure` that is neither true nor false"))?;
                }
                "cluster" => address.cluster = Some(value),
                "ca" => address.authorities = Some(value),
                _ => address.settings.push((key.to_owned(), value)),
            }
        }
        let names = [Some(&address.database), address.cluster.as_ref()];
        if names.into_iter().flatten().any(|name| !is_plain(name)) {
            return Err(bad(
                "has a database or cluster with other characters than letters, digits and _",
            ));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (
                host,
                port.parse()
                    .map_err(|_| bad("has a port that is no number"))?,
            ),
            None => (host, if address.is_secure { 8443 } else { 8123 }),
        };
        if host.is_empty() {
            return Err(bad("has no host"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            ..address
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "clickhouse://{}:{}/{}",
            self.host, self.port, self.database
        )
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_defaults_and_what_is_wrong_is_said() {
        let address: Address = "clickhouse://host".parse().unwrap();
        assert_eq!(
            (
                address.port,
                address.user.as_str(),
                address.database.as_str()
            ),
            (8123, "default", "default")
        );
        let address: Address = "clickhouse://a:b%40c@host/d?secure=true&max_threads=2"
            .parse()
            .unwrap();
        assert_eq!((address.port, address.password.as_str()), (8443, "b@c"));
        assert_eq!(
            address.settings,
            [("max_threads".to_owned(), "2".to_owned())]
        );
        for (bad, what) in [
            ("http://host", "does not begin"),
            ("clickhouse://", "no host"),
            ("clickhouse://host:x", "port"),
            ("clickhouse://host/a-b", "database"),
            ("clickhouse://host?secure", "without `=`"),
            ("clickhouse://a:%zz@host", "password"),
        ] {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(
                error.contains(what) && error.contains(SHAPE),
                "{bad}: {error}"
            );
        }
    }
}
