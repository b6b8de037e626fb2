//! The server and the way to it. Every wait for it ends.

use super::RedisStore;
use crate::backend::BackendError;
use redis::{
    Client, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, Value,
};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Server {
    Tcp {
        host: String,
        port: u16,
    },
    /// The same, encrypted; its certificate is signed by one of this file, or of the host's own.
    Tls {
        host: String,
        port: u16,
        authorities: Option<PathBuf>,
    },
    Unix(PathBuf),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "redis://{host}:{port}"),
            Self::Tls { host, port, .. } => write!(f, "rediss://{host}:{port}"),
            Self::Unix(path) => write!(f, "redis+unix://{}", path.display()),
        }
    }
}

/// A password, which nothing shows.
#[derive(Clone)]
pub(crate) struct Password(pub(crate) Option<String>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(hidden)" } else { "none" })
    }
}

impl RedisStore {
    /// For people; no password is in it.
    pub(super) fn at(&self) -> String {
        format!("{}, database {}, {}", self.server, self.database, self.prefix)
    }

    pub(super) fn refused(&self, reason: impl Into<String>) -> BackendError {
        BackendError::Refused { at: self.at(), reason: reason.into() }
    }

    /// What an error of the server or of the way to it means.
    pub(super) fn explain(&self, error: &RedisError) -> BackendError {
        let what = error.to_string();
        let hint = match error.kind() {
            _ if error.is_timeout() => {
                let source = io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the server did not answer in {:?}", self.patience),
                );
                return BackendError::Io { at: self.at(), source };
            }
            _ if error.is_io_error() => {
                return BackendError::Io { at: self.at(), source: io::Error::other(what) };
            }
            ErrorKind::AuthenticationFailed => PASSWORD_HINT,
            _ => match error.code() {
                Some("NOAUTH" | "WRONGPASS") => PASSWORD_HINT,
                Some("OOM") => "raise the server's maxmemory, or keep fewer snapshots",
                Some("READONLY") => "it is a replica: name the primary server",
                Some("NOPERM") => "give the user the rights that docs/backends.md lists",
                Some("MISCONF") => "the server can not write its own files: see its log",
                _ => return self.refused(what),
            },
        };
        self.refused(format!("{what} ({hint})"))
    }

    /// A new connection, on which no call waits longer than the store's patience.
    pub(super) fn connect(&self) -> Result<Connection, BackendError> {
        let connect = || {
            let connection = self.client()?.get_connection_with_timeout(self.patience)?;
            connection.set_read_timeout(Some(self.patience))?;
            connection.set_write_timeout(Some(self.patience))?;
            Ok(connection)
        };
        connect().map_err(|error| self.explain(&error))
    }

    /// Sends commands together and reads their answers, up to the first failure of the way to the server: to
    /// wait for each answer of a server that hangs would take as long as there are commands.
    pub(super) fn exchange(
        &self,
        with: &mut Connection,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, BackendError> {
        let (mut answers, mut refused) = (Vec::with_capacity(commands.len()), None);
        if commands.is_empty() {
            return Ok(answers);
        }
        let sent = with.send_packed_command(&commands.get_packed_pipeline());
        sent.map_err(|error| self.explain(&error))?;
        for _ in 0..commands.len() {
            let answer = with.recv_response().map_err(|error| self.explain(&error))?;
            match answer.extract_error() {
                Ok(answer) => answers.push(answer),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(answers), |error| Err(self.explain(&error)))
    }

    fn client(&self) -> Result<Client, RedisError> {
        let address = match &self.server {
            Server::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
            Server::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Server::Tls { host, port, .. } => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
        };
        let info = address.into_connection_info()?;
        let mut settings = info.redis_settings().clone();
        settings = settings.set_db(i64::from(self.database)).set_skip_set_lib_name();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password.0 {
            settings = settings.set_password(password);
        }
        let info = info.set_redis_settings(settings);
        match &self.server {
            #[cfg(feature = "redis-tls")]
            Server::Tls { authorities, .. } => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                    })
                };
                let root_cert = authorities.as_ref().map(read).transpose()?;
                let certificates = redis::TlsCertificates { client_tls: None, root_cert };
                Client::build_with_tls(info, certificates)
            }
            _ => Client::open(info),
        }
    }
}

const PASSWORD_HINT: &str = "the password comes from the environment variable MEMBUS_REDIS_PASSWORD, or from the URL at the opening";
