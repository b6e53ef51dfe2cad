auditDay("2023-11-04",[
["12:00:00","sensing-data","extract","ada",1,"00000000-0000-4000-8000-000000000010",1,"the only one"],
]);
