//! Which language a client is written in, as its user agent tells.
use std::fmt;

/// The language of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    Python,
    Go,
    Java,
    Node,
    Dotnet,
    /// JSON over HTTP.
    Rest,
    /// None that the user agent tells.
    #[default]
    Other,
}

impl Language {
    /// The language of a gRPC library or HTTP client by its user agent, wherever in it the name of
    /// the library stands: `my-app/2.0 grpc-python/1.62.1 grpc-c/39.0.0 (linux)`.
    pub fn of_user_agent(agent: &str) -> Self {
        let of = |product: &str| {
            let name = product.split('/').next().unwrap_or_default();
            match name {
                "grpc-python" | "grpc-python-asyncio" => Some(Self::Python),
                "grpc-go" => Some(Self::Go),
                "grpc-node" | "grpc-node-js" => Some(Self::Node),
                "grpc-dotnet" | "grpc-csharp" => Some(Self::Dotnet),
                _ if name.starts_with("grpc-java") => Some(Self::Java),
                _ => None,
            }
        };
        agent.split_ascii_whitespace().take(8).find_map(of).unwrap_or_default()
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Go => "go",
            Self::Java => "java",
            Self::Node => "node",
            Self::Dotnet => "dotnet",
            Self::Rest => "rest",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_tells_the_language() {
        for (agent, language) in [
            ("grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)", Language::Python),
            ("fraud-scorer/2.3 grpc-go/1.60.0", Language::Go),
            ("grpc-java-netty/1.58.0", Language::Java),
            ("grpc-node-js/1.9.5", Language::Node),
            ("grpc-dotnet/2.59.0 (.NET 8.0.1; CLR 8.0.1; net8.0; linux; x64)", Language::Dotnet),
            ("tonic/0.14", Language::Other),
            ("", Language::Other),
        ] {
            assert_eq!(Language::of_user_agent(agent), language, "{agent}");
        }
    }
}
