package durable

var inUse []error // nothing is ever in the way here
