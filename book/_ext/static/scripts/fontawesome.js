/* Empty on purpose: the icons come from the web font. See book/_ext/bn_site.py. */
