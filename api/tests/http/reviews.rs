//! Reviews as API servers send them: made from the types of the Kubernetes API, and kept as files beside this one.
//!
//! Run with `UPDATE_REVIEWS=1` to write the files anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, StatefulSet,
    StatefulSetSpec,
};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, ImageVolumeSource, Pod, PodSpec, PodStatus,
    PodTemplateSpec, ReplicationController, ReplicationControllerSpec, ResourceRequirements, Service,
    ServicePort, ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Serialize;
use serde_json::{Value, json};

/// What a review is about: group, version, kind, resource, subresource.
type What = (&'static str, &'static str, &'static str, &'static str, &'static str);

const POD: What = ("", "v1", "Pod", "pods", "");
const DEPLOYMENT: What = ("apps", "v1", "Deployment", "deployments", "");

/// All of them, by name.
pub fn all() -> BTreeMap<&'static str, Value> {
    let quiet = PodSpec { volumes: None, init_containers: None, ..spec("docker.io/library/app:1") };
    let pod = pod(spec("docker.io/library/app:1"));
    let mut relabelled = pod.clone();
    relabelled.metadata.labels.as_mut().unwrap().insert("tier".into(), "front".into());
    let mut patched = pod.clone();
    patched.spec.as_mut().unwrap().containers[0].image = Some("docker.io/library/app:2".into());
    let mut debugged = pod.clone();
    debugged.spec.as_mut().unwrap().ephemeral_containers = Some(vec![EphemeralContainer {
        name: "debugger".into(),
        image: Some("busybox".into()),
        stdin: Some(true),
        tty: Some(true),
        target_container_name: Some("web".into()),
        ..EphemeralContainer::default()
    }]);
    let mut running = pod.clone();
    running.status = Some(PodStatus { phase: Some("Running".into()), ..PodStatus::default() });

    let deployment = |replicas, image: &str| Deployment {
        metadata: metadata("web"),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: selector(),
            template: template(spec(image)),
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    let (small, large) = (deployment(1, "docker.io/library/app:1"), deployment(3, "docker.io/library/app:1"));
    let scale =
        Scale { metadata: metadata("web"), spec: Some(ScaleSpec { replicas: Some(1) }), status: None };
    let stateful = StatefulSet {
        metadata: metadata("web"),
        spec: Some(StatefulSetSpec {
            selector: selector(),
            template: template(quiet.clone()),
            ..StatefulSetSpec::default()
        }),
        status: None,
    };
    let daemons = DaemonSet {
        metadata: metadata("web"),
        spec: Some(DaemonSetSpec {
            selector: selector(),
            template: template(quiet.clone()),
            ..DaemonSetSpec::default()
        }),
        status: None,
    };
    let replicas = ReplicaSet {
        metadata: metadata("web"),
        spec: Some(ReplicaSetSpec {
            selector: selector(),
            template: Some(template(quiet.clone())),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    };
    let controller = ReplicationController {
        metadata: metadata("web"),
        spec: Some(ReplicationControllerSpec {
            template: Some(template(quiet.clone())),
            ..ReplicationControllerSpec::default()
        }),
        status: None,
    };
    let job_spec = JobSpec { template: template(quiet), ..JobSpec::default() };
    let job = Job { metadata: metadata("web"), spec: Some(job_spec.clone()), status: None };
    let cron = CronJob {
        metadata: metadata("web"),
        spec: Some(CronJobSpec {
            schedule: "*/5 * * * *".into(),
            job_template: JobTemplateSpec { metadata: None, spec: Some(job_spec) },
            ..CronJobSpec::default()
        }),
        status: None,
    };
    let service = Service {
        metadata: metadata("web"),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let exec = json!({
        "apiVersion": "v1", "kind": "PodExecOptions", "stdin": true, "stdout": true, "container": "web", "command": ["sh"],
    });

    let nothing = Value::Null;
    BTreeMap::from([
        ("pod-create", review("CREATE", POD, &pod, &nothing)),
        ("pod-create-dry-run", dry(review("CREATE", POD, &pod, &nothing))),
        ("pod-update-labels", review("UPDATE", POD, &relabelled, &pod)),
        ("pod-update-image", review("UPDATE", POD, &patched, &pod)),
        ("pod-ephemeral-container", review("UPDATE", sub(POD, "ephemeralcontainers"), &debugged, &pod)),
        ("pod-status", review("UPDATE", sub(POD, "status"), &running, &pod)),
        ("pod-delete", review("DELETE", POD, &nothing, &pod)),
        ("pod-exec", review("CONNECT", ("", "v1", "PodExecOptions", "pods", "exec"), &exec, &nothing)),
        ("deployment-create", review("CREATE", DEPLOYMENT, &large, &nothing)),
        ("deployment-update-image", {
            review("UPDATE", DEPLOYMENT, &deployment(3, "docker.io/library/app:2"), &large)
        }),
        ("deployment-scale-down", review("UPDATE", DEPLOYMENT, &small, &large)),
        ("deployment-scale", {
            review("UPDATE", ("autoscaling", "v1", "Scale", "deployments", "scale"), &scale, &scale)
        }),
        ("deployment-delete", review("DELETE", DEPLOYMENT, &nothing, &large)),
        ("statefulset-create", {
            review("CREATE", ("apps", "v1", "StatefulSet", "statefulsets", ""), &stateful, &nothing)
        }),
        (
            "daemonset-create",
            review("CREATE", ("apps", "v1", "DaemonSet", "daemonsets", ""), &daemons, &nothing),
        ),
        (
            "replicaset-create",
            review("CREATE", ("apps", "v1", "ReplicaSet", "replicasets", ""), &replicas, &nothing),
        ),
        ("replicationcontroller-create", {
            let what = ("", "v1", "ReplicationController", "replicationcontrollers", "");
            review("CREATE", what, &controller, &nothing)
        }),
        ("job-create", review("CREATE", ("batch", "v1", "Job", "jobs", ""), &job, &nothing)),
        ("cronjob-create", review("CREATE", ("batch", "v1", "CronJob", "cronjobs", ""), &cron, &nothing)),
        ("service-create", review("CREATE", ("", "v1", "Service", "services", ""), &service, &nothing)),
    ])
}

/// A review of the creation of a Pod of one container with this image.
pub fn of_image(image: &str) -> Value {
    let spec = PodSpec { init_containers: None, volumes: None, ..spec(image) };
    review("CREATE", POD, &pod(spec), &Value::Null)
}

/// A review of the creation of this Pod.
pub fn of_pod(pod: &Value) -> Value {
    review("CREATE", POD, pod, &Value::Null)
}

fn pod(spec: PodSpec) -> Pod {
    Pod { metadata: metadata("web-7d4b9c6f5-x2x7k"), spec: Some(spec), status: None }
}

fn template(spec: PodSpec) -> PodTemplateSpec {
    let metadata = ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

/// A Pod's spec with an image of each sort that it has from the start.
fn spec(image: &str) -> PodSpec {
    let mount = |name: &str| VolumeMount {
        name: name.into(),
        mount_path: format!("/{name}"),
        ..VolumeMount::default()
    };
    PodSpec {
        containers: vec![Container {
            name: "web".into(),
            image: Some(image.into()),
            image_pull_policy: Some("IfNotPresent".into()),
            env: Some(vec![EnvVar { name: "MODE".into(), value: Some("quiet".into()), value_from: None }]),
            ports: Some(vec![ContainerPort { container_port: 8080, ..ContainerPort::default() }]),
            resources: Some(ResourceRequirements {
                limits: Some(BTreeMap::from([("memory".into(), Quantity("128Mi".into()))])),
                ..ResourceRequirements::default()
            }),
            volume_mounts: Some(vec![mount("model")]),
            ..Container::default()
        }],
        init_containers: Some(vec![Container {
            name: "prepare".into(),
            image: Some("quay.io/tools/prepare@sha256:0000000000000000000000000000000000000000000000000000000000000001".into()),
            command: Some(vec!["prepare".into()]),
            ..Container::default()
        }]),
        volumes: Some(vec![
            Volume { name: "scratch".into(), empty_dir: Some(Default::default()), ..Volume::default() },
            Volume {
                name: "model".into(),
                image: Some(ImageVolumeSource {
                    reference: Some("ghcr.io/acme/model:v3".into()),
                    pull_policy: Some("Always".into()),
                }),
                ..Volume::default()
            },
        ]),
        restart_policy: Some("Always".into()),
        service_account_name: Some("default".into()),
        ..PodSpec::default()
    }
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("team".into()),
        labels: Some(labels()),
        annotations: Some(BTreeMap::from([("example.com/owner".into(), "team".into())])),
        ..ObjectMeta::default()
    }
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".into(), "web".into())])
}

fn selector() -> LabelSelector {
    LabelSelector { match_labels: Some(labels()), match_expressions: None }
}

fn sub(what: What, sub_resource: &'static str) -> What {
    (what.0, what.1, what.2, what.3, sub_resource)
}

fn dry(mut review: Value) -> Value {
    review["request"]["dryRun"] = true.into();
    review
}

/// The envelope, whose types are not part of the published API; fields as API servers write them.
fn review(operation: &str, what: What, object: &impl Serialize, old: &impl Serialize) -> Value {
    let (group, version, kind, resource, sub_resource) = what;
    let (object, old) = (serde_json::to_value(object).unwrap(), serde_json::to_value(old).unwrap());
    let named = if object.is_null() { &old } else { &object };
    let name = named.pointer("/metadata/name").cloned().unwrap_or("web".into());
    let user = UserInfo {
        username: Some("system:serviceaccount:kube-system:replicaset-controller".into()),
        uid: Some("5b0c2c7e-8d1f-4bb7-9f5e-0f3d4a1c7b11".into()),
        groups: Some(vec!["system:serviceaccounts".into(), "system:authenticated".into()]),
        extra: None,
    };
    let kind = json!({ "group": group, "version": version, "kind": kind });
    let resource = json!({ "group": group, "version": version, "resource": resource });
    let mut request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "name": name, "namespace": "team", "operation": operation, "userInfo": user,
        "object": object, "oldObject": old, "dryRun": false,
        "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
    });
    if !sub_resource.is_empty() {
        request["subResource"] = sub_resource.into();
        request["requestSubResource"] = sub_resource.into();
    }
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
}

#[test]
fn the_kept_reviews_are_those_that_the_types_make() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/http/reviews");
    let update = std::env::var_os("UPDATE_REVIEWS").is_some();
    for (name, review) in all() {
        let file = dir.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&review).unwrap() + "\n";
        if update {
            std::fs::write(&file, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        assert_eq!(kept, text, "{name} differs: run with UPDATE_REVIEWS=1 and look at the change");
    }
    let files = std::fs::read_dir(&dir).unwrap().count();
    assert_eq!(files, all().len(), "a kept review has no maker");
}

/// The first block of YAML in docs/admission.md that has this kind.
fn documented(kind: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/admission.md");
    let page = std::fs::read_to_string(file).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks
        .into_iter()
        .find(|block| block.contains(&format!("kind: {kind}\n")))
        .unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn the_documented_configurations_ask_about_every_review_that_is_judged() {
    let validating: ValidatingWebhookConfiguration =
        serde_saphyr::from_str(&documented("ValidatingWebhookConfiguration")).unwrap();
    let webhook = &validating.webhooks.unwrap()[0];
    assert_eq!(webhook.failure_policy.as_deref(), Some("Fail"));
    let asks = |rules: &[RuleWithOperations], review: &Value| {
        let request = &review["request"];
        let text =
            |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let sub = text("/subResource");
        let resource = text("/resource/resource") + if sub.is_empty() { "" } else { "/" } + &sub;
        let has = |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|one| one == wanted);
        rules.iter().any(|rule| {
            has(&rule.resources, &resource)
                && has(&rule.operations, &text("/operation"))
                && has(&rule.api_groups, &text("/resource/group"))
        })
    };
    let rules = webhook.rules.as_deref().unwrap();
    for (name, review) in all() {
        let judged = ![
            "pod-status",
            "pod-delete",
            "pod-exec",
            "deployment-scale",
            "deployment-delete",
            "service-create",
        ]
        .contains(&name);
        assert_eq!(asks(rules, &review), judged, "{name}");
    }
    let mutating: MutatingWebhookConfiguration =
        serde_saphyr::from_str(&documented("MutatingWebhookConfiguration")).unwrap();
    let webhook = &mutating.webhooks.unwrap()[0];
    assert_eq!(webhook.reinvocation_policy.as_deref(), Some("IfNeeded"));
    let rules = webhook.rules.as_deref().unwrap();
    assert!(asks(rules, &all()["pod-create"]) && asks(rules, &all()["pod-ephemeral-container"]));
    assert!(!asks(rules, &all()["deployment-create"]));
}
