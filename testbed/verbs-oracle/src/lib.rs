//! Is fabric's own description of the verbs ABI right? Asked of two others: rdma-sys, which bindgen makes from the header, and the
//! C compiler with the header itself.
//!
//! The description is included from `fabric` as a file, so that what is compared is what runs. `cargo xtask test` runs this.

#[allow(missing_docs, reason = "the header documents them")]
#[path = "../../../fabric/src/verbs/ffi.rs"]
pub mod ffi;
#[allow(missing_docs, reason = "the header documents them")]
#[path = "../../../fabric/src/verbs/numbers.rs"]
pub mod numbers;

/// A size or an offset, by its name.
pub type Place = (String, usize);

/// Calls `$with!` with every struct and its fields. A size is compared where the ABI fixes it: `grows` marks structs that get
/// new members at their end, whose size is told to the library or never matters. Of `verbs_context`, which grows at its front, the
/// distance to the end counts, and it has a list of its own.
#[macro_export]
macro_rules! structs {
    ($with:ident) => {
        $with! {
            fixed ibv_device { node_type transport_type name dev_name dev_path ibdev_path }
            fixed ibv_context_ops { poll_cq req_notify_cq post_send post_recv }
            fixed ibv_context { device ops cmd_fd async_fd num_comp_vectors mutex abi_compat }
            fixed ibv_device_attr {
                fw_ver node_guid sys_image_guid max_mr_size page_size_cap vendor_id vendor_part_id
                hw_ver max_qp max_qp_wr device_cap_flags max_sge max_sge_rd max_cq max_cqe max_mr
                max_pd max_qp_rd_atom max_ee_rd_atom max_res_rd_atom max_qp_init_rd_atom
                max_ee_init_rd_atom atomic_cap max_ee max_rdd max_mw max_raw_ipv6_qp
                max_raw_ethy_qp max_mcast_grp max_mcast_qp_attach max_total_mcast_qp_attach max_ah
                max_fmr max_map_per_fmr max_srq max_srq_wr max_srq_sge max_pkeys
                local_ca_ack_delay phys_port_cnt
            }
            fixed ibv_query_device_ex_input { comp_mask }
            grows ibv_device_attr_ex {
                orig_attr comp_mask completion_timestamp_mask hca_core_clock device_cap_flags_ex
            }
            grows ibv_port_attr {
                state max_mtu active_mtu gid_tbl_len port_cap_flags max_msg_sz bad_pkey_cntr
                qkey_viol_cntr pkey_tbl_len lid sm_lid lmc max_vl_num sm_sl subnet_timeout
                init_type_reply active_width active_speed phys_state link_layer flags
                port_cap_flags2
            }
            fixed ibv_pd { context handle }
            fixed ibv_mr { context pd addr length handle lkey rkey }
            fixed ibv_ah { context pd handle }
            fixed ibv_comp_channel { context fd refcnt }
            fixed ibv_cq {
                context channel cq_context handle cqe mutex cond comp_events_completed
                async_events_completed
            }
            fixed ibv_async_event { element event_type }
            fixed ibv_poll_cq_attr { comp_mask }
            grows ibv_cq_ex {
                context channel cq_context handle cqe mutex cond comp_events_completed
                async_events_completed comp_mask status wr_id start_poll next_poll end_poll
                read_opcode read_vendor_err read_byte_len read_imm_data read_qp_num read_src_qp
                read_wc_flags read_slid read_sl read_dlid_path_bits read_completion_ts read_cvlan
                read_flow_tag read_tm_info read_completion_wallclock_ns
            }
            grows ibv_cq_init_attr_ex {
                cqe cq_context channel comp_vector wc_flags comp_mask flags parent_domain
            }
            fixed ibv_values_ex { comp_mask raw_clock }
            fixed ibv_global_route { dgid flow_label sgid_index hop_limit traffic_class }
            fixed ibv_ah_attr { grh dlid sl src_path_bits static_rate is_global port_num }
            fixed ibv_qp_cap {
                max_send_wr max_recv_wr max_send_sge max_recv_sge max_inline_data
            }
            fixed ibv_qp_init_attr { qp_context send_cq recv_cq srq cap qp_type sq_sig_all }
            fixed ibv_qp {
                context qp_context pd send_cq recv_cq srq handle qp_num state qp_type mutex cond
                events_completed
            }
            fixed ibv_qp_attr {
                qp_state cur_qp_state path_mtu path_mig_state qkey rq_psn sq_psn dest_qp_num
                qp_access_flags cap ah_attr alt_ah_attr pkey_index alt_pkey_index
                en_sqd_async_notify sq_draining max_rd_atomic max_dest_rd_atomic min_rnr_timer
                port_num timeout retry_cnt rnr_retry alt_port_num alt_timeout rate_limit
            }
            fixed ibv_sge { addr length lkey }
            fixed ibv_recv_wr { wr_id next sg_list num_sge }
            fixed ibv_send_wr {
                wr_id next sg_list num_sge opcode send_flags imm_data_invalidated_rkey_union wr
            }
            fixed ibv_wc {
                wr_id status opcode vendor_err byte_len imm_data_invalidated_rkey_union qp_num
                src_qp wc_flags pkey_index slid sl dlid_path_bits
            }
        }
    };
}

/// Calls `$with!` with the fields of `verbs_context` that are used.
#[macro_export]
macro_rules! front {
    ($with:ident) => {
        $with! { query_port query_rt_values create_cq_ex query_device_ex sz }
    };
}

macro_rules! of_ours {
    ($($size:ident $name:ident { $($field:ident)* })*) => {
        /// Sizes and offsets as fabric has them.
        pub fn ours() -> Vec<Place> {
            let mut places: Vec<Place> = Vec::new();
            $(
                $crate::size_if!($size places ffi $name);
                $(places.push((
                    concat!(stringify!($name), ".", stringify!($field)).to_owned(),
                    std::mem::offset_of!(ffi::$name, $field),
                ));)*
            )*
            places
        }
        /// Each struct with its fields, for generating C and for looking what is left out.
        pub const STRUCTS: &[(&str, bool, &[&str])] = &[
            $((stringify!($name), $crate::is_fixed!($size), &[$(stringify!($field)),*]),)*
        ];
    };
}
/// Adds the size of a struct whose size the ABI fixes.
#[macro_export]
macro_rules! size_if {
    (fixed $places:ident $from:ident $name:ident) => {
        $places.push((
            concat!(stringify!($name), " size").to_owned(),
            std::mem::size_of::<$from::$name>(),
        ));
    };
    (grows $places:ident $from:ident $name:ident) => {};
}
/// Whether a struct's size is fixed.
#[macro_export]
macro_rules! is_fixed {
    (fixed) => {
        true
    };
    (grows) => {
        false
    };
}
structs!(of_ours);

macro_rules! front_of_ours {
    ($($field:ident)*) => {
        /// Distances to the context at the end of `verbs_context`, as fabric has them.
        pub fn our_front() -> Vec<Place> {
            let end = std::mem::offset_of!(ffi::verbs_context, context);
            vec![$((
                concat!("verbs_context.", stringify!($field)).to_owned(),
                end - std::mem::offset_of!(ffi::verbs_context, $field),
            )),*]
        }
        /// Its fields.
        pub const FRONT: &[&str] = &[$(stringify!($field)),*];
    };
}
front!(front_of_ours);

/// Everything in which `theirs` differs, a line each.
pub fn differences(ours: &[Place], theirs: &[Place]) -> Vec<String> {
    let named = |places: &[Place], name: &str| {
        places.iter().find(|(n, _)| n == name).map(|(_, place)| *place)
    };
    let mut lines: Vec<String> = ours
        .iter()
        .filter(|(name, place)| named(theirs, name) != Some(*place))
        .map(|(name, place)| format!("{name}: ours {place}, theirs {:?}", named(theirs, name)))
        .collect();
    let extra = theirs.iter().filter(|(name, _)| named(ours, name).is_none());
    lines.extend(extra.map(|(name, place)| format!("{name}: theirs {place}, ours none")));
    lines
}
