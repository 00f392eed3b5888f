//! The closed lists of parts: models, objectives, evaluations. What is in the list can be written in an experiment file,
//! under the name of its module.

/// Writes the enum that an entry of the experiment file is read into, and what is known of every part from its module alone.
/// Each module exports a `Config` with a default that implements the trait; its file is the manual.
macro_rules! registry {
    (
        $(#[$doc:meta])*
        $what:literal implements $Trait:path: $($Variant:ident($module:ident)),* $(,)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Config {
            $(#[doc = concat!("[`", stringify!($module), "`]")] $Variant($module::Config),)*
        }

        impl Config {
            #[doc = concat!("Every ", $what, " with its defaults.")]
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Variant($module::Config::default()),)*]
            }

            #[doc = concat!("The word that names the ", $what, " everywhere.")]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Variant(_) => stringify!($module),)* }
            }

            /// The text of its file, from which its description and deviations are read.
            pub fn source(&self) -> &'static str {
                match self { $(Self::$Variant(_) => include_str!(concat!(stringify!($module), ".rs")),)* }
            }

            /// The first sentence of its file.
            pub fn description(&self) -> String {
                $crate::source::description(self.source())
            }
        }

        impl std::ops::Deref for Config {
            type Target = dyn $Trait;
            fn deref(&self) -> &Self::Target {
                match self { $(Self::$Variant(config) => config,)* }
            }
        }
    };
}

pub(crate) use registry;
