//! Against `<infiniband/verbs.h>` as it is installed, by the C compiler.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use railgauge_verbs_oracle::{FRONT, Place, STRUCTS, differences, numbers, our_front, ours};

/// The name of a field in C: two unions have none there.
fn in_c(field: &str) -> &str {
    match field {
        "imm_data_invalidated_rkey_union" => "imm_data",
        other => other,
    }
}

fn program() -> String {
    let mut c = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n\
         #define PUT(name, value) printf(\"%s=%llu\\n\", name, (unsigned long long)(value))\n\
         int main(void) {\n",
    );
    for (name, fixed, fields) in STRUCTS {
        if *fixed {
            writeln!(c, "PUT(\"{name} size\", sizeof(struct {name}));").unwrap();
        }
        for field in *fields {
            let there = in_c(field);
            writeln!(c, "PUT(\"{name}.{field}\", offsetof(struct {name}, {there}));").unwrap();
        }
    }
    for field in FRONT {
        let distance = format!(
            "offsetof(struct verbs_context, context) - offsetof(struct verbs_context, {field})"
        );
        writeln!(c, "PUT(\"verbs_context.{field}\", {distance});").unwrap();
    }
    for (name, _) in numbers::ALL {
        writeln!(c, "PUT(\"{name}\", {name});").unwrap();
    }
    c.push_str("return 0;\n}\n");
    c
}

/// Compiles `source` with cc; the path of what `how` makes, or what the compiler says.
fn compile(name: &str, source: &str, how: &[&str]) -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&file, source).unwrap();
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &file])
        .args(how)
        .output()
        .expect("a C compiler is called cc");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(program) } else { Err(said) }
}

fn run(program: &Path) -> Vec<Place> {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn every_size_offset_and_number_is_that_of_the_header() {
    let mut all = ours();
    all.extend(our_front());
    all.extend(
        numbers::ALL
            .iter()
            .map(|(name, value)| ((*name).to_owned(), usize::try_from(*value).unwrap())),
    );
    let theirs = run(&compile("layout", &program(), &[]).unwrap());
    let different = differences(&all, &theirs);
    assert!(different.is_empty(), "{different:#?}");
    assert!(all.len() > 350, "{} places and numbers were compared", all.len());
}

#[test]
fn every_function_has_the_prototype_that_we_call_it_by() {
    let functions = signatures(include_str!("../../../fabric/src/verbs/library.rs"));
    let slots = signatures(include_str!("../../../fabric/src/verbs/ffi.rs"));
    assert!(functions.len() >= 30 && slots.len() >= 20, "{functions:?} {slots:?}");
    let mut c = String::from("#include <infiniband/verbs.h>\nint main(void) {\n");
    for Signature { name, pointer, .. } in &functions {
        writeln!(c, "{{ {pointer} = {name}; (void)f; }}").unwrap();
    }
    for Signature { owner, name, pointer } in &slots {
        writeln!(c, "{{ static struct {owner} s; {pointer} = s.{name}; (void)f; }}").unwrap();
    }
    c.push_str("return 0;\n}\n");
    // Not linked: a library of another version than the header would say nothing about it.
    compile("prototypes", &c, &["-c"]).unwrap();
}

/// A function pointer in our source: the struct it is a field of, its name, and its type as a C declaration of `f`.
#[derive(Debug)]
struct Signature {
    owner: String,
    name: String,
    pointer: String,
}

/// All function pointers of a file of ours.
fn signatures(source: &str) -> Vec<Signature> {
    const POINTER: &str = "unsafe extern \"C\" fn(";
    let code: Vec<&str> =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    // The readers of a completion have one shape, and an alias.
    let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let code = expand(&code, "Rd<", |result| format!("{POINTER}*mut ibv_cq_ex) -> {result}>"));
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find(POINTER).map(|at| from + at) {
        from = at + POINTER.len();
        let (before, after) = (&code[..at], &code[from..]);
        // `name: Option<` or `name:`; an alias (`type F = …`) has no name, and is no field.
        let before = before.trim_end().trim_end_matches("Option<").trim_end();
        let Some(name) = before.strip_suffix(':').and_then(|b| b.rsplit([' ', '(']).next()) else {
            continue;
        };
        let close = after.find(')').unwrap();
        let arguments: Vec<String> = after[..close]
            .split(',')
            .map(str::trim)
            .filter(|argument| !argument.is_empty())
            .map(to_c)
            .collect();
        let rest = after[close + 1..].trim_start();
        let result = rest.strip_prefix("->").map_or("()", |rest| {
            rest.trim_start().split([',', '>']).next().unwrap_or_default().trim()
        });
        let owner = before.rsplit("pub struct ").next().unwrap_or_default();
        let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
        found.push(Signature {
            owner: owner.split_whitespace().next().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            pointer: format!("{} (*f)({arguments})", to_c(result)),
        });
    }
    found
}

/// Replaces `alias…>` in types by what it stands for; its definition stays.
fn expand(code: &str, alias: &str, stands_for: impl Fn(&str) -> String) -> String {
    let field = format!(": {alias}");
    let mut parts = code.split(&field);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (result, rest) = part.split_once('>').unwrap();
        out.push_str(": Option<");
        out.push_str(&stands_for(result));
        out.push_str(rest);
    }
    out
}

/// One of our types in C.
fn to_c(ours: &str) -> String {
    if let Some(target) = ours.strip_prefix("*mut ") {
        return format!("{} *", to_c(target));
    }
    if let Some(target) = ours.strip_prefix("*const ") {
        return format!("const {} *", to_c(target));
    }
    match ours {
        "()" | "c_void" => "void",
        "c_int" => "int",
        // An enum without negative values is this to the compiler.
        "c_uint" => "unsigned int",
        "c_char" => "char",
        "u8" => "uint8_t",
        "u16" => "uint16_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        "size_t" | "ssize_t" => ours,
        name => return format!("struct {name}"),
    }
    .to_owned()
}

/// What stands in fabric is what is compared: nothing may be left out of the lists above.
#[test]
fn nothing_of_the_description_is_left_out() {
    let source = include_str!("../../../fabric/src/verbs/ffi.rs");
    let mut left_out = Vec::new();
    let mut inside: Option<&str> = None;
    // Members of unions that have no name in C; their parts are in `union_members_begin_where_they_should`.
    let unions = ["ibv_gid_global_t", "rdma_t", "atomic_t", "ud_t", "ibv_gid_entry"];
    for line in source.lines() {
        if line.starts_with("pub union ") {
            inside = None;
        }
        if let Some(rest) = line.strip_prefix("pub struct ") {
            inside = rest.strip_suffix(" {").filter(|name| !unions.contains(name));
            let known = |name: &&str| STRUCTS.iter().any(|(n, _, _)| n == name);
            if inside.is_some_and(|name| name != "verbs_context" && !known(&name)) {
                left_out.push(rest.to_owned());
            }
        }
        let field = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(':'));
        let (Some(name), Some((field, _))) = (inside, field) else { continue };
        let fields = match name {
            "verbs_context" => FRONT,
            _ => STRUCTS.iter().find(|(n, _, _)| *n == name).map_or(&[][..], |(_, _, f)| f),
        };
        let end = name == "verbs_context" && ["priv_", "context"].contains(&field);
        let hidden = field.starts_with('_') || end;
        let odp = ["odp_general_caps", "odp_rc_uc_ud"].contains(&field);
        if !fields.contains(&field) && !hidden && !odp {
            left_out.push(format!("{name}.{field}"));
        }
    }
    assert!(left_out.is_empty(), "not compared: {left_out:?}");
}

/// The unions of a send request and the GID entry, which rdma-sys lacks, by hand.
#[test]
fn union_members_begin_where_they_should() {
    use railgauge_verbs_oracle::ffi::{atomic_t, ibv_gid, ibv_gid_entry, rdma_t, ud_t};
    use std::mem::{offset_of, size_of};
    let (mut c, mut ours) = (String::new(), Vec::new());
    let mut same = |what: &str, expression: &str, place: usize| {
        writeln!(c, "PUT(\"{what}\", {expression});").unwrap();
        ours.push((what.to_owned(), place));
    };
    macro_rules! member {
        ($ty:ident, $union:literal, $($field:ident)*) => {$(
            same(
                concat!(stringify!($ty), ".", stringify!($field)),
                &format!(
                    "offsetof(struct ibv_send_wr, wr.{0}.{1}) - offsetof(struct ibv_send_wr, wr)",
                    $union, stringify!($field)
                ),
                offset_of!($ty, $field),
            );
        )*};
    }
    member!(rdma_t, "rdma", remote_addr rkey);
    member!(atomic_t, "atomic", remote_addr compare_add swap rkey);
    member!(ud_t, "ud", ah remote_qpn remote_qkey);
    macro_rules! gid_entry {
        ($($field:ident)*) => {$(
            same(
                concat!("ibv_gid_entry.", stringify!($field)),
                concat!("offsetof(struct ibv_gid_entry, ", stringify!($field), ")"),
                offset_of!(ibv_gid_entry, $field),
            );
        )*};
    }
    gid_entry!(gid gid_index port_num gid_type ndev_ifindex);
    same("ibv_gid_entry size", "sizeof(struct ibv_gid_entry)", size_of::<ibv_gid_entry>());
    same("ibv_gid size", "sizeof(union ibv_gid)", size_of::<ibv_gid>());
    let head = "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n\
                #define PUT(name, value) printf(\"%s=%llu\\n\", name, (unsigned long long)(value))\n";
    let theirs =
        run(&compile("unions", &format!("{head}int main(void) {{\n{c}return 0;\n}}\n"), &[])
            .unwrap());
    let different = differences(&ours, &theirs);
    assert!(different.is_empty(), "{different:#?}");
}
