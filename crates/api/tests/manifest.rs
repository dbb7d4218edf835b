//! Reading files: good ones round-trip, hostile ones are errors.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use ashlar_api::{Object, diff, expand, manifest, own_network, validate};

const DEMO: &str = include_str!("data/good/demo.yaml");

fn errors(text: &str) -> Vec<String> {
    match manifest::read(text, "file.yaml") {
        Ok(objects) => panic!("no error, but {} objects", objects.len()),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_good_file_gives_its_objects_with_defaults() {
    let objects = manifest::read(DEMO, "demo.yaml").unwrap();
    let values: Vec<_> = objects.iter().map(|object| object.to_value().unwrap()).collect();
    insta::assert_snapshot!("demo", serde_json::to_string_pretty(&values).unwrap());
}

#[test]
fn what_was_read_and_written_as_json_reads_the_same() {
    for object in manifest::read(DEMO, "demo.yaml").unwrap() {
        let json = serde_json::to_string_pretty(&diff::user_view(&object).unwrap()).unwrap();
        assert_eq!(manifest::read(&json, "json").unwrap(), std::slice::from_ref(&object), "{json}");
        let value = object.to_value().unwrap();
        assert_eq!(Object::from_value(object.kind(), value).unwrap(), object);
    }
}

#[test]
fn json_may_be_indented_by_tabs() {
    let json = "{\n\t\"apiVersion\": \"ashlar.dev/v1alpha1\",\n\t\"kind\": \"StoragePool\",\n\t\"metadata\": {\"name\": \"p\"},\n\t\"spec\": {\"type\": \"dir\", \"libvirtName\": \"p\"}\n}\n";
    assert_eq!(manifest::read(json, "json").unwrap().len(), 1);
}

#[test]
fn expanding_writes_inline_groups_out_once() {
    let objects = manifest::read(DEMO, "demo.yaml").unwrap();
    let expanded = expand::expand(objects.clone());
    let names: Vec<_> = expanded.iter().map(|object| object.object_ref().to_string()).collect();
    assert_eq!(
        names,
        [
            "host host-1",
            "storagepool default",
            "network lab",
            "image k8s-v1.37.2-0123456789ab",
            "machineclass small",
            "cluster demo",
            "workergroup demo-wkr",
            "workergroup demo-big"
        ]
    );
    assert_eq!(expand::expand(expanded.clone()), expanded);
}

#[test]
fn a_cluster_that_names_no_network_gets_one_of_its_own() {
    let text = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec:\n  \
                kubernetesVersion: v1.37.2\n  podCidr: 10.0.0.0/8\n  controlPlane: {replicas: 1, class: c}\n";
    let of = |name: &str, namespace: &str| {
        let text = text.replace("{name: a}", &format!("{{name: {name}, namespace: {namespace}}}"));
        manifest::read(&text, "f.yaml").unwrap()
    };
    let nothing = expand::ObjectMap::new();
    let made = own_network::with_own_networks(of("a", "default"), &nothing);
    let [Object::Network(network), Object::Cluster(cluster)] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!((network.metadata.name.as_str(), cluster.spec.network.as_str()), ("a", "a"));
    // Pods live in 10.0.0.0/8, so that the nodes do not.
    assert_eq!(network.spec.cidrs[0].to_string(), "172.20.0.0/16");
    assert!(own_network::is_network_of(network, &cluster.key()));
    assert_eq!(validate::validate_object(&made[0]), []);

    // Written again, it is the same one; another cluster's is another.
    let stored = expand::object_map(made.clone());
    let again = own_network::with_own_networks(of("a", "default"), &stored);
    assert_eq!(again, made[1..]);
    let other = own_network::with_own_networks(of("a", "team"), &stored);
    let Object::Network(others) = &other[0] else { panic!("{other:?}") };
    assert_eq!(others.metadata.name, "team-a");
    let vni = |network: &ashlar_api::Network| network.spec.attachment.vxlan.as_ref().unwrap().vni;
    assert_ne!(vni(others), vni(network));

    // Two that would get the same VNI by their names do not.
    let mut taken = (**network).clone();
    taken.metadata.name = "somebody".to_owned();
    let stored = expand::object_map([Object::from(taken)]);
    let made = own_network::with_own_networks(of("a", "default"), &stored);
    let Object::Network(moved) = &made[0] else { panic!("{made:?}") };
    assert_eq!(vni(moved), vni(network) + 1);
}

#[test]
fn a_group_that_left_the_file_is_named_and_one_that_moved_out_of_it_is_not() {
    let objects = manifest::read(DEMO, "demo.yaml").unwrap();
    let existing = expand::object_map(expand::expand(objects.clone()));
    assert_eq!(expand::no_longer_inline(&objects, &existing), []);
    let without: Vec<Object> = objects
        .into_iter()
        .map(|object| match object {
            Object::Cluster(mut cluster) => {
                cluster.spec.workers.clear();
                Object::Cluster(cluster)
            }
            other => other,
        })
        .collect();
    let gone = expand::no_longer_inline(&without, &existing);
    assert_eq!(gone.iter().map(ToString::to_string).collect::<Vec<_>>(), ["workergroup demo-wkr"]);
    let moved: Vec<Object> = without
        .into_iter()
        .chain(existing.values().filter(|o| o.metadata().name == "demo-wkr").cloned())
        .collect();
    assert_eq!(expand::no_longer_inline(&moved, &existing), []);
}

#[test]
fn hostile_input_is_an_error_and_not_a_hang() {
    let mut seen = Vec::new();
    let mut note = |what: &str, errors: Vec<String>| seen.push(format!("{what}\n  {}", errors.join("\n  ")));
    let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..30).map(|i| {
            let previous = format!("*a{}, ", i - 1).repeat(10);
            format!("a{i}: &a{i} [{previous}]\n")
        }))
        .collect();
    note("aliases that expand to 10^30 values", errors(&bomb));
    let chain: String = std::iter::once("a0: &a0 [x]\n".to_owned())
        .chain((1..5000).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)))
        .collect();
    note("aliases nested 5000 deep", errors(&chain));
    note("an alias inside of its anchor", errors("a: &a [*a]"));
    note("an alias of nothing", errors("a: *nowhere"));
    for opening in ["[", "{", "- ", "? ", "{a: ", "[[", "a: {", "\"", "!!map {", "&a [", "- - ? "] {
        let deep = errors(&opening.repeat(200_000));
        note(&format!("200000 times {opening}"), deep);
    }
    let indented: String = (0..2000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    note("2000 levels of indentation", errors(&indented));
    note("9 MiB", errors(&"x".repeat(9 << 20)));
    let documents = errors(&"---\nkind: X\n".repeat(100_000));
    assert_eq!(documents.len(), 51, "{documents:?}");
    note("the last of 100000 bad documents' errors", documents[50..].to_vec());
    let keys = (0..100_000).map(|i| format!("k{i}: {i}\n")).collect::<String>();
    note("100000 keys", errors(&keys));
    insta::assert_snapshot!("hostile", seen.join("\n"));
}

#[test]
fn ten_thousand_objects_are_read_and_judged() {
    let mut text = String::new();
    for index in 0..10_000 {
        let start = "---\napiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\n";
        text += &format!(
            "{start}metadata: {{name: c{index}}}\nspec: {{vcpus: 2, memory: 4Gi, rootDisk: 20Gi, storagePool: default}}\n"
        );
    }
    let objects = manifest::read(&text, "x").unwrap();
    assert_eq!(objects.len(), 10_000);
    assert_eq!(validate::validate_apply(&objects, &world::stored()), []);
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let error = manifest::read_bytes(b"a: b\nc: \xff\xfe", "file.yaml").unwrap_err();
    assert_eq!(
        error[0].to_string(),
        "file.yaml:2:4: not text: a byte that is not UTF-8 (is this the right file?)"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let _ = manifest::read_bytes(&bytes, "x");
    }

    #[test]
    fn arbitrary_yaml_like_text_never_panics(
        parts in proptest::collection::vec(proptest::sample::select(&[
            "apiVersion: ashlar.dev/v1alpha1\n", "kind: Cluster\n", "metadata:\n", "  name: x\n", "spec:\n", "---\n",
            "...\n", "- ", "a: ", "  ", "\n", "&a ", "*a", "<<: ", "[", "]", "{", "}", ",", "? ", ": ", "!!str ", "!x ",
            "'", "\"", "|\n", ">\n", "#", "\t", "%YAML 1.2\n", "%TAG ! x\n", "null", "1e9", "0x1F", ".inf", "ä", "\u{feff}",
        ][..]), 0..60),
    ) {
        let _ = manifest::read(&parts.concat(), "x");
    }

    #[test]
    fn a_damaged_good_file_never_panics(cut in 0..DEMO.len(), insert in ".{0,3}", skip in 0_usize..20) {
        let end = (cut + skip).min(DEMO.len());
        if let (Some(before), Some(after)) = (DEMO.get(..cut), DEMO.get(end..))
            && let Ok(objects) = manifest::read(&format!("{before}{insert}{after}"), "x")
        {
            let _ = validate::validate_apply(&objects, &world::stored());
            let _ = validate::validate_apply(&expand::expand(objects), &world::stored());
        }
    }
}
