use super::*;

fn refusal(text: &str) -> String {
    format!("{:#}", Config::parse(text).err().expect("it is refused"))
}

const LEAST: &str = "[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1:11112\"\n[spool]\ndir = \"/spool\"\n";

#[test]
fn the_shipped_example_is_valid() {
    let config = Config::parse(EXAMPLE).unwrap();
    assert_eq!(config.rules.len(), 1);
    assert_eq!(config.study.quiet_period, Duration::from_secs(30));
}

#[test]
fn what_the_example_leaves_out_is_valid_too() {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let of_key = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-');
        let named = key.len() < line.len() && key.bytes().all(of_key);
        named || line.starts_with('[') || line.starts_with(']') || line.starts_with("    \"")
    };
    let uncommented =
        EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line));
    let text: Vec<_> = uncommented.collect();
    // The one model that the example does not have.
    let second = "[[model]]\nname = \"medsiglip\"\npath = \"x\"\n";
    let config = Config::parse(&(text.join("\n") + "\n" + second)).unwrap();
    let settings = &config.rules[0].settings;
    assert_eq!(settings.second_model.as_deref(), Some("medsiglip"));
    assert_eq!(settings.evidence, EvidenceSection { image_dependence: true, samples: 5, saliency: Some([4, 4]) });
    assert_eq!(settings.checks.action(report::ObjectionKind::SideMissing), report::Action::Partial);
    assert!(config.tls.is_some() && config.listen.tls_address.is_some());
    assert_eq!(config.peers.iter().map(|peer| peer.certificate.len()).sum::<usize>(), 2);
}

#[test]
fn little_is_enough() {
    let config = Config::parse(LEAST).unwrap();
    assert_eq!(config.spool.reserve, 1 << 30);
    assert!(config.peers.is_empty());
}

#[test]
fn a_spool_has_a_folder_of_its_own_and_the_same_one_wherever_it_is_started() {
    let with = |dir: &str| LEAST.replace("\"/spool\"", &format!("\"{dir}\""));
    for none in ["", "/"] {
        assert!(refusal(&with(none)).contains("is no folder of its own"), "{none:?}");
    }
    for relative in ["spool", "~/spool"] {
        let warnings = Config::parse(&with(relative)).unwrap().warnings;
        assert!(warnings.iter().any(|it| it.contains("write the whole path")), "{relative}: {warnings:?}");
    }
}

#[test]
fn a_mistake_is_named_with_its_line_or_its_name() {
    let check = |addition: &str, expected: &[&str]| {
        let refusal = refusal(&format!("{LEAST}{addition}"));
        for part in expected {
            assert!(refusal.contains(part), "{refusal}\ndoes not say {part:?}");
        }
    };
    check("durabilty = \"none\"\n", &["line 6", "durabilty"]);
    check("durability = \"maybe\"\n", &["line 6", "maybe"]);
    check("reserve = \"1 parsec\"\n", &["parsec"]);
    check("[study]\nquiet_period = \"soon\"\n", &["line 7", "soon"]);
    check("[runtime]\nprovider = \"gpu\"\n", &["line 7", "gpu", "tensorrt"]);
    check("[runtime]\nmemory = \"much\"\n", &["line 7", "much", "512MiB"]);
    check("[[model]]\nname = \"m\"\npath = \"x\"\nprovider = \"CUDA\"\n", &["line 9", "CUDA", "cuda"]);
    check("[[rule]]\nname = \"a\"\nmodel = \"m\"\n", &["rule \"a\"", "model \"m\""]);
    check(
        "[[model]]\nname = \"m\"\npath = \"x\"\n[[rule]]\nname = \"a\"\nwhen = \"modality = \"\nmodel = \"m\"\n",
        &["rule \"a\"", "when"],
    );
    check(
        "[[model]]\nname = \"m\"\npath = \"x\"\n[[rule]]\nname = \"a\"\nwhen = \"modallity == 'CR'\"\nmodel = \"m\"\n",
        &["rule \"a\"", "modallity"],
    );
    let rule = "[[model]]\nname = \"m\"\npath = \"x\"\n[[rule]]\nname = \"a\"\nmodel = \"m\"\n";
    let checks = format!("{rule}[rule.checks]\n");
    check(
        &format!("{checks}priors = \"note\"\n"),
        &["\"priors\"", "minor, major, critical", "empty", "low-confidence"],
    );
    check(&format!("{checks}prior = \"delete\"\n"), &["line 13", "delete", "strike", "hold"]);
    check(&format!("{rule}[rule.evidence]\nsamples = 33\n"), &["rule \"a\"", "samples = 33", "32"]);
    check(&format!("{rule}[rule.evidence]\nsaliency = [0, 4]\n"), &["rule \"a\"", "saliency = [0, 4]", "[4, 4]"]);
    check(&format!("{rule}[rule.evidence]\noclusion = true\n"), &["oclusion", "image_dependence"]);
    check(&format!("{rule}second_model = \"n\"\n"), &["rule \"a\"", "model \"n\""]);
    check("[admin]\naddress = \"0.0.0.0:8042\"\n", &["loopback"]);
    let peer = "[[peer]]\nname = \"ct\"\n";
    check(peer, &["peer \"ct\"", "neither certificate nor address"]);
    check(&format!("{peer}certificate = [\"CN=ct\"]\n"), &["peer \"ct\"", "listen.tls_address"]);
    check(&format!("{peer}certificate = [\"ct\"]\n"), &["line 8", "CN=pacs,O=Hospital"]);
    check(&format!("{peer}address = [\"10.1.2.3\"]\nmax_associations = 0\n"), &["peer \"ct\"", "max_associations"]);
    check(
        &format!("{peer}address = [\"10.1.2.3\"]\ncommitment_address = \"10.1.2.3\"\n"),
        &["peer \"ct\"", "commitment_address", "10.1.2.4:104"],
    );
    let destination = "[[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\naddress = \"pacs:104\"\n";
    check(&format!("{destination}tls = true\n"), &["destination \"pacs\"", "[tls]"]);
    check(&format!("{destination}objects = [\"ai-results-sr\"]\n"), &["destination \"pacs\"", "blank", "\"text-sr\""]);
    check(&format!("{destination}tls_server_name = \"a\"\n"), &["destination \"pacs\"", "tls = true"]);
    check("[tls]\ncertificate = \"a\"\nkey = \"b\"\n", &["line 6", "client_ca"]);
    check(
        "[tls]\ncertificate = \"a\"\nkey = \"b\"\nclient_ca = \"c\"\nprofile = \"ssl3\"\n",
        &["line 10", "ssl3", "bcp195-restricted"],
    );
}

#[test]
fn models_run_where_they_say_or_where_all_do() {
    let text = format!(
        "{LEAST}[runtime]\nprovider = \"auto\"\nmemory = \"12GiB\"\n[[model]]\nname = \"a\"\npath = \"a\"\nprovider = \
         \"tensorrt\"\n[[model]]\nname = \"b\"\npath = \"b\"\n"
    );
    let config = Config::parse(&text).unwrap();
    assert_eq!((config.runtime.provider, config.runtime.memory), (Provider::Auto, Some(12 << 30)));
    let providers: Vec<_> = config.models.iter().map(|model| model.provider).collect();
    assert_eq!(providers, [Some(Provider::TensorRt), None]);
    let least = Config::parse(LEAST).unwrap();
    assert_eq!((least.runtime.provider, least.runtime.memory), (Provider::Cpu, None));
}

#[test]
fn private_sop_classes_are_all_some_or_none() {
    let of = |line: &str| {
        let text = LEAST.replace("[spool]", &format!("{line}\n[spool]"));
        Config::parse(&text).map(|config| config.listen.private_sop_classes)
    };
    assert_eq!(of("").unwrap(), [SopClassPattern::any()]);
    assert!(of("private_sop_classes = []").unwrap().is_empty());
    assert_eq!(of("private_sop_classes = [\"1.2.840.113619.*\", \"1.3.12\"]").unwrap().len(), 2);
    let refusal = format!("{:#}", of("private_sop_classes = [\"GE\"]").unwrap_err());
    assert!(refusal.contains("GE") && refusal.contains("1.2.840.113619.*"), "{refusal}");
}

#[test]
fn what_is_listened_on_is_named() {
    let check = |listen: &str, expected: &str| {
        let text = format!("[listen]\nae_title = \"PREREAD\"\n{listen}[spool]\ndir = \"/spool\"\n");
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}\ndoes not say {expected:?}");
    };
    check("", "neither address nor tls_address");
    check("tls_address = \"127.0.0.1:2762\"\n", "[tls] section");
    check("address = \"127.0.0.1\"\n", "address");
}

#[test]
fn a_peer_is_known_by_its_certificate_and_a_destination_reached_over_tls() {
    let text = LEAST.replace("address =", "tls_address =")
        + "[tls]\ncertificate = \"a\"\nkey = \"b\"\nclient_ca = \"c\"\n"
        + "[[peer]]\nname = \"ct\"\ncertificate = [\"CN=ct,O=Hospital\"]\nmax_associations = 2\n"
        + "[[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\naddress = \"pacs:2762\"\ntls = true\n";
    let config = Config::parse(&text).unwrap();
    assert_eq!((config.listen.address, config.listen.tls_address.unwrap().port()), (None, 11112));
    let peer = config.peers[0].peer();
    assert_eq!(peer.certificates, ["CN=ct,O=Hospital".parse().unwrap()]);
    assert_eq!((peer.max_associations, peer.ae_title.as_str()), (2, "*"));
    assert!(config.destinations[0].tls && config.tls.unwrap().profile == TlsProfile::Bcp195);
}

#[test]
fn every_kind_of_objection_is_documented_with_what_it_does() {
    const CHECKS: &str = include_str!("../../../../docs/CHECKS.md");
    let default = report::Policy::default();
    let action = |kind| serde_json::to_value(default.action(kind)).unwrap();
    for kind in report::ObjectionKind::all() {
        let action = action(kind);
        let row = format!("| `{}` | {} | {} |", kind.name(), kind.severity().name(), action.as_str().unwrap());
        assert!(CHECKS.contains(&row), "docs/CHECKS.md does not have {row:?}");
    }
    let rows = CHECKS.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 5);
    assert_eq!(rows.count(), report::ObjectionKind::all().count());
}

#[test]
fn everything_that_can_never_work_is_told_at_once() {
    let text = format!(
        "{LEAST}[admin]\naddress = \"127.0.0.1:11112\"\n[study]\nquiet_period = \"0s\"\n[log]\nlevel = \"loud,,=\"\n\
         [[peer]]\nname = \"ct\"\naddress = [\"10.1.2.3\"]\nquiet_period = \"0s\"\n\
         [[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\naddress = \"127.0.0.1\"\n\
         [[model]]\nname = \"m\"\npath = \"x\"\n\
         [[rule]]\nname = \"a\"\nwhen = 'modality = \"CR\"'\nmodel = \"m\"\ndestinations = [\"pacs\"]\n\
         [[rule]]\nname = \"b\"\nwhen = 'Modality == \"CR\"'\nmodel = \"m\"\ndestinations = [\"pacs\"]\n\
         [[rule]]\nname = \"c\"\nwhen = 'modality == \"CR\" && bodypart == \"X\"'\nmodel = \"n\"\n"
    );
    let refusal = refusal(&text);
    for part in [
        "line 7: admin.address and listen.address both want port 11112",
        "line 9: study.quiet_period = \"0s\"",
        "peer \"ct\" has quiet_period = \"0s\"",
        "destination \"pacs\" has address = \"127.0.0.1\"; write host and port",
        "write `==`",
        "`Modality`, which an image does not have; there are modality, body_part, view",
        "`bodypart`",
        "rule \"c\" has no destinations",
        "names the model \"n\"",
        "mistakes",
    ] {
        assert!(refusal.contains(part), "{part:?} is not told:\n{refusal}");
    }
}

#[test]
fn what_is_not_built_yet_is_refused_in_words() {
    let rule = "[[model]]\nname = \"m\"\npath = \"x\"\n[[rule]]\nname = \"a\"\nmodel = \"m\"\n";
    let check = |text: String, parts: &[&str]| {
        let refusal = refusal(&text);
        assert!(parts.iter().all(|part| refusal.contains(part)), "{refusal}");
    };
    check(format!("{LEAST}durability = \"machine\"\n"), &["line 6", "\"machine\"", "one so far"]);
    check(format!("{LEAST}[web]\naddress = \"127.0.0.1:1\"\n"), &["line 6", "[web]", "not built yet"]);
    check(format!("roles = [\"receive\"]\n{LEAST}"), &["line 1", "all four", "not built yet"]);
    check(
        format!("roles = [\"receive\", \"write\"]\n{LEAST}"),
        &["line 1", "\"write\"", "receive, read, deliver, web"],
    );
    check(format!("{LEAST}{rule}mode = \"withheld\"\n"), &["line 12", "not built yet", "shadow"]);
    check(format!("{LEAST}{rule}mode = \"draught\"\n"), &["line 12", "\"draught\"", "shadow", "off"]);
    check(format!("{LEAST}{rule}unless = [\"b\"]\n"), &["line 12", "`unless`", "not built yet"]);
    check(format!("{LEAST}reserve = \"1 GB\"\n"), &["line 6", "1024", "1GiB"]);
    let all = format!("roles = [\"web\", \"receive\", \"read\", \"deliver\"]\n{LEAST}{rule}mode = \"off\"\n");
    assert_eq!(Config::parse(&all).unwrap().rules[0].mode, Mode::Off);
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let check = |text: &str, parts: &[&str]| {
        let found = Config::parse(&format!("{LEAST}{text}")).unwrap().warnings.join("\n");
        assert!(parts.iter().all(|part| found.contains(part)), "{found}");
        assert_eq!(found.is_empty(), parts.is_empty(), "{found}");
    };
    let peer = |name: &str, more: &str| format!("[[peer]]\nname = \"{name}\"\naddress = [\"10.1.2.3\"]\n{more}");
    let rule = |name: &str, when: &str| {
        format!("[[rule]]\nname = \"{name}\"\nwhen = '{when}'\nmodel = \"m\"\nmode = \"shadow\"\n")
    };
    let model = "[[model]]\nname = \"m\"\npath = \"x\"\n";
    check("", &["there is no [[rule]]"]);
    check(&format!("{model}{}", rule("a", "true")), &[]);
    check(
        &format!("{model}{}{}", rule("a", "true"), rule("b", "modality == \"CR\"")),
        &["line 15", "rule \"b\" overlaps with \"a\""],
    );
    check(&format!("{model}{}{}", rule("b", "modality == \"CR\""), rule("a", "true")), &[]);
    let two = format!("{model}{}{}{}", rule("a", "true"), peer("one", ""), peer("two", ""));
    check(&two, &[]);
    check(&format!("{two}{}", peer("three", "")), &["\"one\" and \"three\" together", "all 64"]);
    check(&format!("{two}max_associations = 32\n"), &["\"one\" and \"two\" together", "kept for each other peer"]);
    let few = |more: &str| {
        let text = LEAST.replace("[spool]", "max_associations = 2\n[spool]") + &two + &peer("three", "") + more;
        Config::parse(&text).unwrap().warnings.join("\n")
    };
    assert!(few("").contains("there are 3 [[peer]] and 2 associations"), "{}", few(""));
    assert!(few("").contains("peer \"three\" alone may hold all 2"), "{}", few(""));
    check(
        &format!("{model}{}[[peer]]\nname = \"ct\"\naddress = [\"10.1.2.7/24\"]\n", rule("a", "true")),
        &["10.1.2.0/24", "10.1.2.7 for one"],
    );
    let spare =
        "[[model]]\nname = \"n\"\npath = \"x\"\n[[destination]]\nname = \"d\"\nae_title = \"D\"\naddress = \"d:1\"\n";
    check(
        &format!("{model}{spare}{}", rule("a", "true")),
        &["no rule uses the model \"n\"", "to the destination \"d\""],
    );
}
