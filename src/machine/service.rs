//! Which service of a cloud made this sandbox, by the variables that only it sets.
//!
//! AWS: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html and
//! docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html. Google:
//! cloud.google.com/run/docs/container-contract and
//! cloud.google.com/functions/docs/configuring/env-var. Azure:
//! learn.microsoft.com/azure/azure-functions/functions-app-settings and
//! learn.microsoft.com/azure/container-apps/environment-variables. Alibaba:
//! help.aliyun.com/document_detail/422183.html.

use std::env;

use serde::Serialize;

use crate::json::{self, FromJson};

/// A service, and the variable that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The variable.
    pub variable: &'static str,
    /// What its value begins with.
    #[serde(skip)]
    start: &'static str,
    /// The platform, as `lithowatt.environment` names it; `None` where it has no name for it.
    pub platform: Option<&'static str>,
    /// It makes a sandbox for one function.
    #[serde(skip)]
    function: bool,
}

const fn service(
    variable: &'static str,
    start: &'static str,
    platform: Option<&'static str>,
    function: bool,
) -> Service {
    Service {
        variable,
        start,
        platform,
        function,
    }
}

const LAMBDA: Service = service("AWS_LAMBDA_FUNCTION_NAME", "", Some("aws-lambda"), true);
const ECS: &str = "aws-ecs";

/// The first that is set counts.
const SERVICES: [Service; 9] = [
    LAMBDA,
    service("ECS_CONTAINER_METADATA_URI_V4", "", Some(ECS), false),
    service("AWS_EXECUTION_ENV", "AWS_ECS", Some(ECS), false),
    service("FUNCTION_TARGET", "", Some("google-cloud-functions"), true),
    service("K_SERVICE", "", Some("google-cloud-run"), true),
    service("CLOUD_RUN_JOB", "", Some("google-cloud-run"), true),
    service(
        "FUNCTIONS_WORKER_RUNTIME",
        "",
        Some("azure-functions"),
        true,
    ),
    service("CONTAINER_APP_NAME", "", Some("azure-container-apps"), true),
    service("FC_FUNCTION_NAME", "", None, true),
];

/// By its variable: the rest is in the table.
impl FromJson for Service {
    fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        let variable: String = json::field(json::fields(value)?, "variable")?;
        let known = SERVICES.into_iter().find(|one| one.variable == variable);
        known.ok_or_else(|| "a service that is not known".into())
    }
}

impl Service {
    fn is_set(&self) -> bool {
        let start = self.start.as_bytes();
        let value = env::var_os(self.variable);
        value.is_some_and(|v| !v.is_empty() && v.as_encoded_bytes().starts_with(start))
    }

    /// The service that made this sandbox; `None` outside of all that have a name.
    pub fn found() -> Option<Self> {
        let mut named = SERVICES.into_iter().filter(|one| one.platform.is_some());
        named.find(Self::is_set)
    }

    /// Whether this is AWS Lambda.
    pub fn is_lambda(&self) -> bool {
        *self == LAMBDA
    }

    /// Whether this is a task of AWS ECS.
    pub fn is_ecs(&self) -> bool {
        self.platform == Some(ECS)
    }
}

/// Whether this process is in an AWS Lambda sandbox.
pub fn in_lambda() -> bool {
    LAMBDA.is_set()
}

/// Whether a service is shown that makes a sandbox for one function.
pub fn of_one_function() -> bool {
    SERVICES.iter().any(|one| one.function && one.is_set())
}
