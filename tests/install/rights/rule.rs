//! What is granted against what was used, both ways. Pure.

use std::collections::BTreeSet;
use std::fmt;

/// Verbs that a role can limit by names, since each request has one.
const NAMED_VERBS: [&str; 4] = ["get", "update", "patch", "delete"];

/// How far a rule reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// One namespace.
    Namespace(String),
    /// Every namespace, and what is in none.
    Cluster,
}

/// One rule, as one account has it by one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `NAMESPACE/NAME` of the `ServiceAccount`.
    pub account: String,
    /// Kind and name of the role.
    pub role: String,
    /// The file that it comes from.
    pub source: String,
    /// Where it counts.
    pub reach: Reach,
    /// API groups; the core group is empty.
    pub groups: Vec<String>,
    /// Resources, with their subresource as in a rule.
    pub resources: Vec<String>,
    /// Names; none: all.
    pub names: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
}

/// One thing that an account asked for and was let do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// `NAMESPACE/NAME` of the `ServiceAccount`.
    pub account: String,
    /// As the authorizer names it.
    pub verb: String,
    /// API group; the core group is empty.
    pub group: String,
    /// Resource, with its subresource as in a rule.
    pub resource: String,
    /// Nothing for what is in none, and for a question about all of them.
    pub namespace: Option<String>,
    /// Nothing where the request named no object.
    pub name: Option<String>,
}

/// The smallest thing that a rule grants: one verb on one resource, and one name if it has names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom<'a> {
    /// The rule.
    pub grant: &'a Grant,
    /// One of its groups.
    pub group: &'a str,
    /// One of its resources.
    pub resource: &'a str,
    /// One of its verbs.
    pub verb: &'a str,
    /// One of its names; nothing if it has none.
    pub name: Option<&'a str>,
}

/// A difference between what is granted and what is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference<'a> {
    /// No rule of ours explains this.
    NotGranted(&'a Use),
    /// Nobody used this.
    NeverUsed(Atom<'a>),
    /// Other rules of the account explain every use of this.
    Doubled(Atom<'a>),
    /// Every use had this one name, and the rule has none.
    OneNameWouldDo(Atom<'a>, String),
    /// Every use was in this one namespace, and the rule counts in all.
    OneNamespaceWouldDo(Atom<'a>, String),
}

impl Grant {
    /// Whether this rule lets its account do that.
    pub fn allows(&self, used: &Use) -> bool {
        self.atoms().any(|atom| atom.covers(used))
    }

    /// Everything it grants, one by one.
    pub fn atoms(&self) -> impl Iterator<Item = Atom<'_>> {
        let each_name = || -> Vec<Option<&str>> {
            if self.names.is_empty() {
                vec![None]
            } else {
                self.names.iter().map(|name| Some(name.as_str())).collect()
            }
        };
        let mut atoms = Vec::new();
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    atoms.extend(each_name().into_iter().map(|name| Atom {
                        grant: self,
                        group,
                        resource,
                        verb,
                        name,
                    }));
                }
            }
        }
        atoms.into_iter()
    }
}

impl Atom<'_> {
    /// Whether this is what a use needed.
    pub fn covers(&self, used: &Use) -> bool {
        let reaches = match &self.grant.reach {
            Reach::Cluster => true,
            Reach::Namespace(namespace) => used.namespace.as_ref() == Some(namespace),
        };
        reaches
            && self.grant.account == used.account
            && self.group == used.group
            && self.resource == used.resource
            && self.verb == used.verb
            && self.name.is_none_or(|name| used.name.as_deref() == Some(name))
    }
}

/// Every difference, in the order of uses, then of rules.
pub fn differences<'a>(grants: &'a [Grant], uses: &'a BTreeSet<Use>) -> Vec<Difference<'a>> {
    let unexplained = uses
        .iter()
        .filter(|used| !grants.iter().any(|grant| grant.allows(used)));
    let mut differences: Vec<_> = unexplained.map(Difference::NotGranted).collect();
    for atom in grants.iter().flat_map(Grant::atoms) {
        let covered: Vec<&Use> = uses.iter().filter(|used| atom.covers(used)).collect();
        let others = || grants.iter().filter(|grant| !std::ptr::eq(*grant, atom.grant));
        let is_doubled = covered.iter().all(|used| others().any(|grant| grant.allows(used)));
        differences.extend(judged(atom, &covered, is_doubled));
    }
    differences
}

fn judged<'a>(atom: Atom<'a>, covered: &[&Use], is_doubled: bool) -> Option<Difference<'a>> {
    if covered.is_empty() {
        return Some(Difference::NeverUsed(atom));
    }
    if is_doubled {
        return Some(Difference::Doubled(atom));
    }
    let only = |values: BTreeSet<Option<&String>>| match values.into_iter().collect::<Vec<_>>()[..] {
        [one] => one.cloned(),
        _ => None,
    };
    let can_be_named = NAMED_VERBS.contains(&atom.verb) || matches!(atom.verb, "list" | "watch");
    if atom.name.is_none()
        && can_be_named
        && let Some(name) = only(covered.iter().map(|used| used.name.as_ref()).collect())
    {
        return Some(Difference::OneNameWouldDo(atom, name));
    }
    if atom.grant.reach == Reach::Cluster
        && let Some(namespace) = only(covered.iter().map(|used| used.namespace.as_ref()).collect())
    {
        return Some(Difference::OneNamespaceWouldDo(atom, namespace));
    }
    None
}

impl fmt::Display for Use {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            text,
            "{} {} {}",
            self.account,
            self.verb,
            shown(&self.group, &self.resource)
        )?;
        if let Some(name) = &self.name {
            write!(text, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(text, " in {namespace}"),
            None => write!(text, " in no namespace, or in all"),
        }
    }
}

impl fmt::Display for Atom<'_> {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant {
            account, role, source, ..
        } = self.grant;
        write!(text, "{} {}", self.verb, shown(self.group, self.resource))?;
        if let Some(name) = self.name {
            write!(text, " {name}")?;
        }
        write!(text, " ({role} of {account}, {source})")
    }
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(used) => write!(text, "used and not granted: {used}"),
            Self::NeverUsed(atom) => write!(text, "granted and never used: {atom}"),
            Self::Doubled(atom) => write!(text, "granted twice: {atom}"),
            Self::OneNameWouldDo(atom, name) => write!(text, "granted for all names and used for {name} alone: {atom}"),
            Self::OneNamespaceWouldDo(atom, namespace) => {
                write!(text, "granted in all namespaces and used in {namespace} alone: {atom}")
            }
        }
    }
}

fn shown(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "mesh/agent";

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn grant(resources: &[&str], names: &[&str], verbs: &[&str]) -> Grant {
        Grant {
            account: ACCOUNT.to_owned(),
            role: "Role agent".to_owned(),
            source: "role.yaml".to_owned(),
            reach: Reach::Namespace("mesh".to_owned()),
            groups: texts(&[""]),
            resources: texts(resources),
            names: texts(names),
            verbs: texts(verbs),
        }
    }

    fn used(verb: &str, resource: &str, name: &str) -> Use {
        Use {
            account: ACCOUNT.to_owned(),
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            namespace: Some("mesh".to_owned()),
            name: (!name.is_empty()).then(|| name.to_owned()),
        }
    }

    /// In the order of the alphabet where they are uses, else of the rules.
    fn said(grants: &[Grant], uses: &[Use]) -> Vec<String> {
        let uses = uses.iter().cloned().collect();
        let mut said: Vec<String> = differences(grants, &uses).iter().map(ToString::to_string).collect();
        for text in &mut said {
            *text = text.replace(" (Role agent of mesh/agent, role.yaml)", "");
        }
        let uses = said.iter().filter(|text| text.starts_with("used")).count();
        said[..uses].sort();
        said
    }

    #[test]
    fn rules_that_are_used_to_the_last_verb_and_no_further_do_not_differ() {
        let grants = [
            grant(&["secrets"], &["a", "b"], &["get"]),
            grant(&["services"], &[], &["list", "create"]),
        ];
        let uses = [
            used("get", "secrets", "a"),
            used("get", "secrets", "b"),
            used("list", "services", ""),
            used("create", "services", ""),
        ];
        assert_eq!(said(&grants, &uses), Vec::<String>::new());
    }

    #[test]
    fn use_that_no_rule_explains_is_told() {
        let grants = [grant(&["secrets"], &["a"], &["get"])];
        let elsewhere = Use {
            namespace: Some("other".to_owned()),
            ..used("get", "secrets", "a")
        };
        let another = Use {
            account: "mesh/hub".to_owned(),
            ..used("get", "secrets", "a")
        };
        let uses = [
            used("get", "secrets", "a"),
            used("get", "secrets", "b"),
            used("update", "secrets", "a"),
            used("get", "secrets/status", "a"),
            elsewhere,
            another,
        ];
        assert_eq!(
            said(&grants, &uses),
            [
                "used and not granted: mesh/agent get secrets a in other",
                "used and not granted: mesh/agent get secrets b in mesh",
                "used and not granted: mesh/agent get secrets/status a in mesh",
                "used and not granted: mesh/agent update secrets a in mesh",
                "used and not granted: mesh/hub get secrets a in mesh",
            ]
        );
    }

    #[test]
    fn verb_resource_or_name_that_nobody_used_is_told() {
        let grants = [grant(&["secrets", "pods"], &["a", "b"], &["get", "update"])];
        let uses = [used("get", "secrets", "a"), used("get", "pods", "b")];
        assert_eq!(
            said(&grants, &uses),
            [
                "granted and never used: get secrets b",
                "granted and never used: update secrets a",
                "granted and never used: update secrets b",
                "granted and never used: get pods a",
                "granted and never used: update pods a",
                "granted and never used: update pods b",
            ]
        );
    }

    #[test]
    fn what_two_rules_grant_is_told_of_both() {
        let grants = [
            grant(&["pods"], &[], &["list"]),
            grant(&["pods"], &[], &["list", "watch"]),
        ];
        let uses = [used("list", "pods", ""), used("watch", "pods", "")];
        assert_eq!(
            said(&grants, &uses),
            ["granted twice: list pods", "granted twice: list pods"]
        );
    }

    #[test]
    fn rule_without_names_that_always_had_the_same_one_is_told() {
        let grants = [grant(&["secrets"], &[], &["get", "watch", "create"])];
        let uses = [
            used("get", "secrets", "a"),
            used("watch", "secrets", "a"),
            used("create", "secrets", ""),
        ];
        assert_eq!(
            said(&grants, &uses),
            [
                "granted for all names and used for a alone: get secrets",
                "granted for all names and used for a alone: watch secrets",
            ]
        );
    }

    #[test]
    fn rule_for_all_namespaces_that_was_used_in_one_is_told() {
        let wide = Grant {
            reach: Reach::Cluster,
            ..grant(&["services"], &[], &["list"])
        };
        let uses = [used("list", "services", "")];
        let expected = ["granted in all namespaces and used in mesh alone: list services"];
        assert_eq!(said(std::slice::from_ref(&wide), &uses), expected);
        let everywhere = Use {
            namespace: None,
            ..used("list", "services", "")
        };
        assert_eq!(said(&[wide], &[everywhere]), Vec::<String>::new());
    }

    #[test]
    fn rule_with_names_does_not_let_an_unnamed_request_pass() {
        let grants = [grant(&["secrets"], &["a"], &["list", "create"])];
        let uses = [used("list", "secrets", ""), used("create", "secrets", "")];
        assert_eq!(said(&grants, &uses).len(), 4);
        let grants = [grant(&["secrets"], &["a"], &["list"])];
        assert_eq!(said(&grants, &[used("list", "secrets", "a")]), Vec::<String>::new());
    }
}
