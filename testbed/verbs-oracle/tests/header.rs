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

/// A function of the table in fabric, as a C declaration of a pointer called `f`.
const FUNCTIONS: &[(&str, &str)] = &[
    ("ibv_get_device_list", "struct ibv_device **(*f)(int *)"),
    ("ibv_free_device_list", "void (*f)(struct ibv_device **)"),
    ("ibv_open_device", "struct ibv_context *(*f)(struct ibv_device *)"),
    ("ibv_close_device", "int (*f)(struct ibv_context *)"),
    ("ibv_fork_init", "int (*f)(void)"),
    ("ibv_query_device", "int (*f)(struct ibv_context *, struct ibv_device_attr *)"),
    ("ibv_get_async_event", "int (*f)(struct ibv_context *, struct ibv_async_event *)"),
    ("ibv_ack_async_event", "void (*f)(struct ibv_async_event *)"),
    ("ibv_alloc_pd", "struct ibv_pd *(*f)(struct ibv_context *)"),
    ("ibv_dealloc_pd", "int (*f)(struct ibv_pd *)"),
    ("ibv_reg_mr", "struct ibv_mr *(*f)(struct ibv_pd *, void *, size_t, int)"),
    ("ibv_dereg_mr", "int (*f)(struct ibv_mr *)"),
    ("ibv_create_comp_channel", "struct ibv_comp_channel *(*f)(struct ibv_context *)"),
    ("ibv_destroy_comp_channel", "int (*f)(struct ibv_comp_channel *)"),
    ("ibv_get_cq_event", "int (*f)(struct ibv_comp_channel *, struct ibv_cq **, void **)"),
    ("ibv_ack_cq_events", "void (*f)(struct ibv_cq *, unsigned int)"),
    (
        "ibv_create_cq",
        "struct ibv_cq *(*f)(struct ibv_context *, int, void *, struct ibv_comp_channel *, int)",
    ),
    ("ibv_destroy_cq", "int (*f)(struct ibv_cq *)"),
    ("ibv_create_qp", "struct ibv_qp *(*f)(struct ibv_pd *, struct ibv_qp_init_attr *)"),
    ("ibv_modify_qp", "int (*f)(struct ibv_qp *, struct ibv_qp_attr *, int)"),
    (
        "ibv_query_qp",
        "int (*f)(struct ibv_qp *, struct ibv_qp_attr *, int, struct ibv_qp_init_attr *)",
    ),
    ("ibv_destroy_qp", "int (*f)(struct ibv_qp *)"),
    ("ibv_create_ah", "struct ibv_ah *(*f)(struct ibv_pd *, struct ibv_ah_attr *)"),
    ("ibv_destroy_ah", "int (*f)(struct ibv_ah *)"),
    ("ibv_query_pkey", "int (*f)(struct ibv_context *, uint8_t, int, __be16 *)"),
    ("ibv_wc_status_str", "const char *(*f)(enum ibv_wc_status)"),
    ("ibv_event_type_str", "const char *(*f)(enum ibv_event_type)"),
    (
        "ibv_reg_mr_iova2",
        "struct ibv_mr *(*f)(struct ibv_pd *, void *, size_t, uint64_t, unsigned int)",
    ),
    (
        "_ibv_query_gid_table",
        "ssize_t (*f)(struct ibv_context *, struct ibv_gid_entry *, size_t, uint32_t, size_t)",
    ),
    (
        "ibv_reg_dmabuf_mr",
        "struct ibv_mr *(*f)(struct ibv_pd *, uint64_t, size_t, uint64_t, int, int)",
    ),
    ("ibv_query_qp_data_in_order", "int (*f)(struct ibv_qp *, enum ibv_wr_opcode, uint32_t)"),
];

#[test]
fn every_function_has_the_prototype_that_we_call_it_by() {
    let mut c = String::from("#include <infiniband/verbs.h>\nint main(void) {\n");
    for (name, pointer) in FUNCTIONS {
        writeln!(c, "{{ {pointer} = {name}; (void)f; }}").unwrap();
    }
    c.push_str("return 0;\n}\n");
    // Not linked: a library of another version than the header would say nothing about it.
    compile("prototypes", &c, &["-c"]).unwrap();
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

    let table = include_str!("../../../fabric/src/verbs/library.rs");
    let functions = table
        .lines()
        .filter_map(|line| line.strip_prefix("        ")?.split_once(": unsafe extern \"C\" fn("))
        .map(|(name, _)| name);
    let unchecked: Vec<&str> =
        functions.filter(|name| FUNCTIONS.iter().all(|(f, _)| f != name)).collect();
    assert!(unchecked.is_empty(), "prototypes not compared: {unchecked:?}");
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
        run(&compile("unions", &format!("{head}int main(void) {{\n{c}return 0;\n}}\n")).unwrap());
    let different = differences(&ours, &theirs);
    assert!(different.is_empty(), "{different:#?}");
}
