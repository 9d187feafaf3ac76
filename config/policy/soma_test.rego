# What the policy answers, for `opa test config/policy` and for the tests of the process.
package soma.policy_test

import data.soma.policy
import rego.v1

asks(action, context) := asks_for(action, "something", context)

asks_for(action, resource, context) := {
	"tenant": "acme",
	"persona_id": null,
	"action": action,
	"resource": resource,
	"context": context,
}

with_scopes(scopes) := {
	"authenticated": true,
	"auth_required": true,
	"worker": false,
	"tenant_sessions": false,
	"subject": "u-1",
	"scopes": scopes,
}

member := with_scopes(["openid", "chat"])

admin := with_scopes(["openid", "admin"])

nobody := {"authenticated": false, "auth_required": true, "worker": false, "subject": null, "scopes": []}

auth_off := {"authenticated": false, "auth_required": false, "worker": false, "subject": null, "scopes": []}

worker := {"authenticated": false, "auth_required": true, "worker": true, "subject": null, "scopes": []}

member_actions := {
	"attachments.delete",
	"attachments.download",
	"attachments.links.create",
	"attachments.links.read",
	"attachments.links.revoke",
	"attachments.upload",
	"attachments.upload.file",
	"auth.logins.end",
	"auth.logins.read",
	"auth.session",
	"config.read",
	"conversation.delete",
	"conversation.list",
	"conversation.pause",
	"conversation.read",
	"conversation.rename",
	"conversation.reset",
	"conversation.send",
	"conversation.stop",
	"memory.receipt",
}

admin_actions := {
	"admin.actors.read",
	"admin.antivirus.test",
	"admin.audit.export",
	"admin.audit.read",
	"admin.dlq.cancel",
	"admin.dlq.delete",
	"admin.dlq.edit",
	"admin.dlq.purge",
	"admin.dlq.read",
	"admin.dlq.reprocess",
	"admin.keys.create",
	"admin.keys.read",
	"admin.keys.revoke",
	"admin.logins.end",
	"admin.logins.read",
	"admin.policy.read",
	"memory.delete",
	"memory.export",
	"memory.export.end",
	"memory.export.read",
	"memory.read",
	"memory.write",
	"settings.read",
	"settings.update",
}

unknown_actions := {
	"",
	"auth.logins",
	"Public",
	"adminactors.read",
	"conversation",
	"conversation.",
	"conversation.send.more",
	"memory",
	"memory.exports",
	"public ",
	"settings",
	"settings.update.all",
}

allowed(decision, rule, reach) if {
	decision.allow == true
	decision.rule == rule
	decision.reach == reach
	decision.reason != ""
	count(decision) == 4
}

denied(decision, rule) if {
	decision.allow == false
	decision.rule == rule
	decision.reach == "own"
	decision.reason != ""
	count(decision) == 4
}

test_public_is_for_everybody if {
	every context in [nobody, member, {}] {
		decision := policy.decision with input as asks("public", context)
		allowed(decision, "public", "own")
	}
	off := policy.decision with input as asks("public", auth_off)
	allowed(off, "public", "tenant")
}

test_without_authentication_everything_known_is_allowed if {
	every action in member_actions | admin_actions {
		decision := policy.decision with input as asks(action, auth_off)
		allowed(decision, "auth-off", "tenant")
	}
}

test_nobody_may_do_nothing_where_authentication_is_required if {
	every action in (member_actions | admin_actions) | unknown_actions {
		decision := policy.decision with input as asks(action, nobody)
		denied(decision, "authentication")
	}
}

test_what_does_not_say_that_authentication_is_off_requires_it if {
	every context in [
		{},
		{"authenticated": false},
		{"auth_required": false},
		{"authenticated": false, "auth_required": null},
		{"authenticated": "false", "auth_required": "false"},
		{"authenticated": 1, "auth_required": 0, "scopes": ["admin"]},
		null,
		"admin",
	] {
		decision := policy.decision with input as asks("conversation.send", context)
		denied(decision, "authentication")
	}
}

test_no_input_is_denied if {
	every given in [{}, null, "public", ["public"]] {
		decision := policy.decision with input as given
		denied(decision, "authentication")
	}
}

test_members_talk if {
	every action in member_actions {
		decision := policy.decision with input as asks(action, member)
		allowed(decision, "member", "own")
	}
}

test_members_are_no_admins if {
	every action in admin_actions {
		decision := policy.decision with input as asks(action, member)
		denied(decision, "admin-scope")
	}
}

test_admins_do_what_admins_do if {
	every action in admin_actions {
		decision := policy.decision with input as asks(action, admin)
		allowed(decision, "admin-scope", "tenant")
	}
	keys := policy.decision with input as asks("memory.read", with_scopes(["keys:manage"]))
	allowed(keys, "admin-scope", "tenant")
}

test_an_admin_scope_is_a_whole_word if {
	every scopes in [
		[],
		["administrator"],
		["admin "],
		["Admin"],
		["not-admin"],
		["keys"],
		["keys:manage:own"],
		"admin",
		{"admin": "admin"},
		[["admin"]],
		null,
	] {
		decision := policy.decision with input as asks("memory.read", with_scopes(scopes))
		denied(decision, "admin-scope")
	}
}

test_sessions_of_others_need_a_scope_or_the_setting if {
	every scopes in [["sessions:tenant"], ["chat", "admin"], ["keys:manage"]] {
		decision := policy.decision with input as asks("conversation.read", with_scopes(scopes))
		allowed(decision, "member", "tenant")
	}
	every scopes in [[], ["sessions"], ["sessions:tenant:read"], "sessions:tenant"] {
		decision := policy.decision with input as asks("conversation.read", with_scopes(scopes))
		allowed(decision, "member", "own")
	}
	shared := object.union(member, {"tenant_sessions": true})
	decision := policy.decision with input as asks("conversation.read", shared)
	allowed(decision, "member", "tenant")
	said := object.union(member, {"tenant_sessions": "true"})
	other := policy.decision with input as asks("conversation.read", said)
	allowed(other, "member", "own")
}

test_an_action_without_a_rule_is_denied if {
	every action in unknown_actions {
		every context in [member, admin, auth_off] {
			decision := policy.decision with input as asks(action, context)
			denied(decision, "unknown-action")
		}
	}
	every action in [null, 7, ["public"], {"public": "public"}] {
		decision := policy.decision with input as asks(action, admin)
		denied(decision, "unknown-action")
	}
}

test_actors_send_and_remember if {
	send := policy.decision with input as asks_for("conversation.send", "message", worker)
	allowed(send, "worker", "tenant")
	every resource in ["somabrain", "conversation_memory"] {
		every action in ["memory.recall", "memory.write"] {
			decision := policy.decision with input as asks_for(action, resource, worker)
			allowed(decision, "worker", "tenant")
		}
	}
}

test_actors_show_files_that_came_with_messages if {
	show := policy.decision with input as asks_for("attachments.show", "6a1c0000-0000-4000-8000-000000000000", worker)
	allowed(show, "worker", "tenant")
	nothing := policy.decision with input as asks_for("attachments.show", null, worker)
	denied(nothing, "worker")
	every context in [member, admin, auth_off] {
		decision := policy.decision with input as asks("attachments.show", context)
		denied(decision, "unknown-action")
	}
}

test_actors_do_nothing_else if {
	every action in (member_actions | admin_actions) | unknown_actions {
		decision := policy.decision with input as asks(action, worker)
		denied(decision, "worker")
	}
	send := policy.decision with input as asks_for("conversation.send", "somabrain", worker)
	denied(send, "worker")
	write := policy.decision with input as asks_for("memory.write", "message", worker)
	denied(write, "worker")
	recall := policy.decision with input as asks_for("memory.recall", "memories", worker)
	denied(recall, "worker")
	every context in [member, admin, auth_off] {
		read := policy.decision with input as asks_for("memory.recall", "somabrain", context)
		denied(read, "unknown-action")
	}
}

test_what_is_internal_is_for_workers if {
	decision := policy.decision with input as asks("internal.llm.test", worker)
	allowed(decision, "worker", "tenant")
	every context in [member, admin, auth_off] {
		refused := policy.decision with input as asks("internal.llm.test", context)
		denied(refused, "unknown-action")
	}
	stranger := policy.decision with input as asks("internal.llm.test", nobody)
	denied(stranger, "authentication")
}

test_an_actor_has_no_rights_of_people if {
	every context in [admin, auth_off] {
		acting := object.union(context, {"worker": true})
		decision := policy.decision with input as asks("conversation.read", acting)
		denied(decision, "worker")
	}
}

test_tools_have_their_own_rules if {
	every context in [worker, member, auth_off] {
		echo := policy.decision with input as asks_for("tool.execute", "echo", context)
		echo.allow
		echo.rule == "tool"
		timestamp := policy.decision with input as asks_for("tool.execute", "timestamp", context)
		timestamp.allow
		other := policy.decision with input as asks_for("tool.execute", "shell", context)
		denied(other, "tool")
		foreign := policy.decision with input as asks_for("tool.execute", "document_ingest", context)
		denied(foreign, "tool")
		public := object.union(asks_for("tool.execute", "document_ingest", context), {"tenant": "public"})
		ours := policy.decision with input as public
		ours.allow
	}
	echo := policy.decision with input as asks_for("tool.execute", "echo", nobody)
	denied(echo, "authentication")
}

test_the_format_of_a_timestamp_may_be_denied if {
	every format in ["iso", "", null, "deny"] {
		context := object.union(worker, {"args": {"format": format}})
		decision := policy.decision with input as asks_for("tool.execute", "timestamp", context)
		decision.allow
	}
	context := object.union(worker, {"args": {"format": "DENY"}})
	decision := policy.decision with input as asks_for("tool.execute", "timestamp", context)
	denied(decision, "tool")
}

test_allow_is_the_decision_in_short if {
	policy.allow with input as asks("conversation.send", member)
	not policy.allow with input as asks("memory.read", member)
	not policy.allow with input as {}
}
